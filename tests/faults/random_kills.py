"""Kills index, watch, remove, build-index and backup at random moments; a program of its own.

    python random_kills.py WORK KILLS SECONDS SEED

One library lives through all of it, while its photos are added, changed, renamed, copied and
deleted. After each kill it is checked, and now and then completed and compared with the disk.
Prints how many kills met what, and what was wrong. What is loaded is loaded once: each run is a
fork. Ends after so many kills, or so many seconds.
"""

import io
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import faiss  # noqa: F401 - loaded before the forks
import numpy as np
import watchfiles  # noqa: F401 - loaded before the forks
import xxhash
from PIL import Image
from repeated_kills import ProjectingEncoder

from indexer.pipeline import index_sources, remove_paths
from indexer.watch import watch_sources
from retrieval.errors import LibraryError, NotFoundError
from retrieval.indices.build import BuildOptions
from retrieval.indices.maintenance import build_index
from retrieval.integrity.backup import back_up, restore
from retrieval.integrity.check import check_library
from retrieval.library import create_library, library_exists, open_library
from retrieval.media import Modality

_MOST_PHOTOS = 60
_LEAST_PHOTOS = 12
_COMMANDS = {"index": 4, "watch": 3, "remove": 1, "build-index": 2, "backup": 3}


class Photos:
    """A folder of pictures of noise that changes."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self._chance = chance
        self._number = 0
        for _ in range(30):
            self._add()

    def paths(self) -> list[Path]:
        return sorted(self.folder.rglob("*.png"))

    def change(self) -> None:
        for _ in range(self._chance.randint(1, 8)):
            paths = self.paths()
            path = self._chance.choice(paths)
            self._number += 1
            other = path.with_name(f"{self._number}.png")
            act = self._chance.choice(["add", "add", "delete", "rename", "copy", "overwrite"])
            if act == "delete" and len(paths) > _LEAST_PHOTOS:
                path.unlink()
            elif act == "rename":
                path.rename(other)
            elif act == "copy" and len(paths) < _MOST_PHOTOS:
                shutil.copyfile(path, other)
            elif act == "overwrite":
                path.write_bytes(self._noise())
            elif act == "add" and len(paths) < _MOST_PHOTOS:
                self._add()

    def _add(self) -> None:
        self._number += 1
        path = self.folder / f"album {self._number % 3}" / f"{self._number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._noise())

    def _noise(self) -> bytes:
        pixels = np.frombuffer(self._chance.randbytes(40 * 30 * 3), np.uint8).reshape(30, 40, 3)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


class Kills:
    """The library, and what was acknowledged of it."""

    def __init__(self, work: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._photos = Photos(work / "photos", self._chance)
        self._library = work / "library"
        self._backup = work / "backup"
        self._restored = work / "restored"
        self._acknowledged = work / "acknowledged"
        self._encoder = ProjectingEncoder()
        self._vectors: dict[str, np.ndarray] = {}
        self._durations = dict.fromkeys(_COMMANDS, 1.0)
        self._rows = self._backed_up = 0
        self.kills: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.findings: list[str] = []

    def begin(self) -> None:
        """Make the library, and see how long that takes."""
        began = time.monotonic()
        self._complete()
        took = time.monotonic() - began
        self._durations |= {"index": took, "watch": took, "remove": took / 4}

    def round(self) -> None:
        """Change the photos, run something, kill it, look at what is left."""
        if library_exists(self._library) and self._chance.random() < 0.04:
            shutil.rmtree(self._library)
            shutil.rmtree(self._backup, ignore_errors=True)
            self._rows = self._backed_up = 0
        self._photos.change()
        command = "index"
        if library_exists(self._library):
            command = self._chance.choices(list(_COMMANDS), list(_COMMANDS.values()))[0]
        began = time.monotonic()
        pid = self._start(command)
        if command == "watch":
            time.sleep(self._chance.uniform(0, self._durations["index"]))
            self._photos.change()
        code = self._wait(pid, self._chance.uniform(0, 1.3 * self._durations[command]))
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.kills[command] += 1
            self._durations[command] *= 1.02  # of one that never comes to its end
        else:
            took = time.monotonic() - began
            self._durations[command] = 0.7 * self._durations[command] + 0.3 * took
            if code:
                self._find(f"{command} failed by itself: {code}")
        self._take_acknowledged()
        if library_exists(self._library):
            self._verify(after=command)
            if self._chance.random() < 0.3:
                self._complete()
            if command == "backup" or self._chance.random() < 0.1:
                self._verify_backup()

    def finish(self) -> None:
        """Complete the library, and compare it."""
        self._complete()
        self._verify_backup()

    def _run(self, command: str) -> None:
        folder, encoder = self._photos.folder, self._encoder
        batch_size = random.SystemRandom().choice([1, 4, 16])
        if command in {"index", "complete"}:
            library = create_library(self._library, encoder.space)
            index_sources(
                library,
                encoder,
                [folder],
                batch_size=batch_size,
                workers=1,
                on_progress=self._acknowledging(library),
            )
            return
        library = open_library(self._library)
        if command == "watch":
            watch_sources(
                library,
                encoder,
                [folder],
                on_event=lambda _: None,
                stop_event=threading.Event(),
                batch_size=batch_size,
                workers=1,
                on_progress=self._acknowledging(library),
            )
        elif command == "remove":
            with_files = sorted({path.parent for path in self._photos.paths()})
            try:
                remove_paths(library, with_files[:1])
            except NotFoundError:
                return
        elif command == "build-index":
            factory = random.SystemRandom().choice(["IVF2,Flat", "Flat", "SQ8"])
            build_index(
                library,
                Modality.IMAGE,
                lambda: encoder,
                encoder.space,
                options=BuildOptions(factory=factory),
                device="cpu",
            )
        else:
            done = back_up(library, self._backup)
            self._acknowledge(f"backup {done.rows}")

    def _acknowledging(self, library: object) -> Callable[[object], None]:
        def tell(_progress: object) -> None:
            with library.catalog.snapshot() as snapshot:
                count = snapshot.row_count(self._encoder.space.id, Modality.IMAGE)
            self._acknowledge(f"rows {count}")

        return tell

    def _acknowledge(self, what: str) -> None:
        with self._acknowledged.open("a") as file:
            file.write(f"{what}\n")

    def _take_acknowledged(self) -> None:
        if not self._acknowledged.exists():
            return
        for line in self._acknowledged.read_text().split("\n")[:-1]:
            what, count = line.split()
            if what == "rows":
                self._rows = max(self._rows, int(count))
            else:
                self._backed_up = int(count)
        self._acknowledged.unlink()

    def _start(self, command: str) -> int:
        if pid := os.fork():
            return pid
        code = 1
        try:
            self._run(command)
            code = 0
        except LibraryError as error:
            print(command, error, file=sys.stderr)
        except BaseException:  # noqa: BLE001 - the fork must not go on with what its parent has to do
            traceback.print_exc()
        os._exit(code)

    @staticmethod
    def _wait(pid: int, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        return None

    def _complete(self) -> None:
        """Run to the end, and compare with the disk."""
        code = self._wait(self._start("complete"), 120)
        self._take_acknowledged()
        if code != 0:
            self._find(f"completing ended with {code}")
            return
        self._verify(after="complete")
        there = {str(p): xxhash.xxh3_128_hexdigest(p.read_bytes()) for p in self._photos.paths()}
        library = open_library(self._library)
        with library.catalog.snapshot() as snapshot:
            known = {entry.path: entry.content_hash for entry in snapshot.indexed_files()}
        library.close()
        if known != there:
            self._find(f"not what is on the disk: {sorted(known.items() ^ there.items())[:4]}")
        self.checks["completed"] += 1

    def _verify(self, *, after: str) -> None:
        try:
            library = open_library(self._library)
        except LibraryError as error:
            self._find(f"after {after}: {error}")
            return
        if library.warnings:
            self._find(f"after {after}: {library.warnings}")
        self._compare(library, self._rows, after)
        library.close()
        self.checks["verified"] += 1

    def _compare(self, library: object, least_rows: int, after: str) -> None:
        """Look for damage, rows that are lost or doubled, and wrong vectors."""
        report = check_library(library)
        if not report.is_whole:
            self._find(f"after {after}: {report.problems[:3]}")
        space = library.space()
        with library.catalog.snapshot() as snapshot:
            count = snapshot.row_count(space.id, Modality.IMAGE)
            items = snapshot.items_at(space.id, Modality.IMAGE, range(count))
            states = {entry.path: entry for entry in snapshot.indexed_files()}
            failures = [f for f in snapshot.failures() if f.path in states]
        if count < least_rows:
            self._find(f"after {after}: {count} rows, of {least_rows} that were acknowledged")
        if failures:
            self._find(f"after {after}: {failures[:3]}")
        rows = library.embeddings(space, Modality.IMAGE).rows(count)
        seen: Counter[str] = Counter()
        for row, at_row in items.items():
            if len({item.content_hash for item in at_row}) > 1:
                self._find(f"after {after}: row {row} is of two contents")
            for item in at_row:
                seen[item.path] += 1
                vector = self._vector_of(item)
                if vector is not None and np.abs(rows[row] - vector).max() > 2e-3:
                    self._find(f"after {after}: {item.path} has another vector")
        if doubled := [path for path, times in seen.items() if times > 1]:
            self._find(f"after {after}: doubled {doubled[:3]}")

    def _vector_of(self, item: object) -> np.ndarray | None:
        """Compute it afresh; None where the content is not there any more."""
        if item.content_hash not in self._vectors:
            for path in self._photos.paths():
                content = path.read_bytes()
                with Image.open(io.BytesIO(content)) as image:
                    pixels = self._encoder.preprocess(image.convert("RGB"))
                key = xxhash.xxh3_128_hexdigest(content)
                [self._vectors[key]] = self._encoder.encode(Modality.IMAGE, [pixels])
        return self._vectors.get(item.content_hash)

    def _verify_backup(self) -> None:
        if not self._backed_up:
            return
        shutil.rmtree(self._restored, ignore_errors=True)
        try:
            done = restore(self._backup, self._restored)
        except LibraryError as error:
            self._find(f"the backup: {error}")
            return
        if done.damaged or done.rows < self._backed_up:
            self._find(f"the backup has {done}, of {self._backed_up} rows")
        library = open_library(self._restored)
        self._compare(library, self._backed_up, "restore")
        library.close()
        self.checks["restored"] += 1

    def _find(self, what: str) -> None:
        self.findings.append(what)
        print(what, file=sys.stderr)


def main() -> None:
    work, kills, seconds, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
    end = time.monotonic() + seconds
    state = Kills(work, seed)
    state.begin()
    while state.kills.total() < kills and time.monotonic() < end:
        state.round()
    state.finish()
    told = {"kills": state.kills, "checks": state.checks, "findings": state.findings}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
