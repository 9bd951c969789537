"""Indexing side by side with other programs that embed folders of photos.

Each runs as its users run it, in a process of its own, over the same files: what it takes to start
is measured with a single photo and told apart, since loading a model takes some as long as
hundreds of photos.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.speed.processes import Finished, run_measured
from indexer.scan import FoundFile, walk
from retrieval.errors import MMSearchError, UsageError
from retrieval.media import MediaKind

_DATABASE = "db.sqlite3"


class IndexerFailedError(MMSearchError):
    """A program that was to be measured ended with an error."""


@dataclass(frozen=True)
class Call:
    """How a program is called: its arguments, the folder it runs in, what its environment adds."""

    command: Sequence[str]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Indexer:
    """A program that embeds the photos of a folder.

    call: for a folder of photos, and an empty one for all that it writes, how to call it; called
    again with the same two, it gives a second run.
    """

    name: str
    call: Callable[[Path, Path], Call]


@dataclass(frozen=True)
class IndexerSpeed:
    """What a program took for `images` photos; seconds of whole processes.

    start_s: for one photo alone. first_s: for all, from nothing. second_s: for all once more, with
    what it keeps and no photo changed. peak_memory_bytes: see `processes.Finished`.
    """

    name: str
    images: int
    start_s: float
    first_s: float
    second_s: float
    peak_memory_bytes: int | None

    @property
    def images_per_second(self) -> float:
        """Of the first run, its start included."""
        return self.images / self.first_s

    @property
    def images_per_second_started(self) -> float | None:
        """Of the first run without what one photo takes; None where that leaves nothing."""
        seconds = self.first_s - self.start_s
        return (self.images - 1) / seconds if seconds > 0 and self.images > 1 else None


def mmsearch(command: Sequence[str], encoder: str) -> Indexer:
    """This program, as `command`, with an encoder as for `mmsearch index`."""

    def call(photos: Path, place: Path) -> Call:
        library = place / "library"
        known = [] if library.exists() else ["--encoder", encoder]
        return Call([*command, "index", str(photos), "--library", str(library), *known])

    return Indexer("mmsearch", call)


def rclip(program: Path, models: Path | None = None) -> Indexer:
    """Rclip, which embeds what is new and then answers a query; that is part of its time.

    models: a data directory of its own with the models that it would else download again, each
    time, into the empty one that it is given.
    """

    def call(photos: Path, place: Path) -> Call:
        data = place / "data"
        if not data.exists():
            data.mkdir()
            for entry in models.iterdir() if models else ():
                if not entry.name.startswith(_DATABASE):
                    (data / entry.name).symlink_to(entry.absolute())
        command = [str(program), "--filepath-only", "--top", "1", "a photo"]
        return Call(command, photos, {"RCLIP_DATADIR": str(data)})

    return Indexer("rclip", call)


def clip_retrieval(program: Path, encoder: str) -> Indexer:
    """`clip-retrieval inference`, without the index that a second command builds.

    encoder: `open_clip:MODEL/TAG_OR_FILE`, which it understands as this project does. It keeps
    nothing that would spare a second run the work of the first.
    """

    def call(photos: Path, place: Path) -> Call:
        options = {
            "input_dataset": photos,
            "output_folder": place / "embeddings",
            "enable_text": False,
            "clip_model": encoder,
            "batch_size": 64,
            "num_prepro_workers": max(1, (os.cpu_count() or 1) - 1),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return Call([str(program), "inference", *words], place)

    return Indexer("clip-retrieval", call)


def measure_indexers(
    photos: Path,
    indexers: Sequence[Indexer],
    *,
    limit: int = 300,
    on_done: Callable[[IndexerSpeed], None] = lambda _: None,
) -> list[IndexerSpeed]:
    """Run each program three times on the first `limit` photos below a folder, one after another.

    Raises UsageError for a folder without photos, IndexerFailedError with what a program printed
    when it fails.
    """
    found = [
        entry.path
        for entry in walk(str(photos))
        if isinstance(entry, FoundFile) and entry.kind is MediaKind.IMAGE
    ][:limit]
    if not found:
        raise UsageError(f"No images found in {photos}.")
    results = []
    with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as folder:
        one, all_of_them = Path(folder, "one"), Path(folder, "all")
        for chosen, files in ((one, found[:1]), (all_of_them, found)):
            chosen.mkdir()
            for number, file in enumerate(files):
                shutil.copyfile(file, chosen / f"{number:07}{Path(file).suffix.lower()}")
        for indexer in indexers:
            started = _run(indexer, one, Path(folder, f"{indexer.name}-one"))
            place = Path(folder, f"{indexer.name}-all")
            first = _run(indexer, all_of_them, place)
            second = _run(indexer, all_of_them, place)
            speed = IndexerSpeed(
                name=indexer.name,
                images=len(found),
                start_s=started.seconds,
                first_s=first.seconds,
                second_s=second.seconds,
                peak_memory_bytes=first.peak_memory_bytes,
            )
            results.append(speed)
            on_done(speed)
    return results


def _run(indexer: Indexer, photos: Path, place: Path) -> Finished:
    place.mkdir(exist_ok=True)
    call = indexer.call(photos, place)
    finished = run_measured(call.command, folder=call.folder, environment=call.environment)
    if finished.exit_code:
        raise IndexerFailedError(
            f"{indexer.name} ended with exit code {finished.exit_code}:\n{finished.output}"
        )
    return finished
