"""Writes to a Lance table until it is killed, and logs what it is about to do and has done.

    python table_writer.py LOCATION WORK NAME KIND SEED

KIND `merge` adds, replaces and deletes files of its own by single commits, and merges some that
another writer merges, too. `export` changes a library of its own, and exports it. A line of the log
says what its files should be then, by path, as [version of the content, parts]; `ack` follows when
it is done.
"""

import json
import os
import random
import sys
from pathlib import Path

import numpy as np

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.encoders.base import Space
from retrieval.lance.export import export_library
from retrieval.lance.records import StoredFile, StoredItem, stored_file, table_of
from retrieval.lance.schema import file_key_of
from retrieval.lance.table import LanceTable
from retrieval.library import create_library, library_exists, open_library
from retrieval.media import MediaKind, Modality

SPACE = Space("toy", "sha256:0", "none", 8)
Files = dict[str, list[int]]


def vectors(path: str, version: int, parts: int) -> np.ndarray:
    drawn = np.random.default_rng([version, *path.encode()]).normal(size=(parts, 8))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)


def entry_of(path: str, version: int) -> FileEntry:
    return FileEntry(path, MediaKind.IMAGE, 1, 1, f"{version}-{path}")


def part_of(number: int, parts: int) -> str:
    return f"p{number}" if parts > 1 else ""


def stored(path: str, version: int, parts: int) -> StoredFile:
    items = [
        StoredItem(ItemEntry(Modality.IMAGE, -1, part=part_of(number, parts)), vector)
        for number, vector in enumerate(vectors(path, version, parts))
    ]
    return stored_file(entry_of(path, version), items)


class Log:
    """What a writer did, durable line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: object) -> None:
        with self.path.open("a") as file:
            torn = self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n")
            file.write(("\n" if torn else "") + json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> tuple[Files, Files | None, int]:
        """What was acknowledged last, what was about to be done since, and how often it was."""
        acknowledged: Files = {}
        intended: Files | None = None
        count = 0
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    told = json.loads(line)
                except ValueError:  # it was killed in the middle of it
                    continue
                if told == "ack":
                    acknowledged, intended = intended or {}, None
                    count += 1
                else:
                    intended = told
        return acknowledged, intended, count


def files_in(table: LanceTable, prefix: str) -> Files:
    """The files below a path; fails where one is not whole, or is there twice."""
    rows = table.read(
        ["path", "part", "content_hash", "vector", "_rowid"], f"path LIKE '{prefix}%'"
    ).to_pylist()
    found: dict[str, dict] = {}
    for row in rows:
        parts = found.setdefault(row["path"], {})
        assert row["part"] not in parts, f"twice: {row['path']} {row['part']}"
        parts[row["part"]] = row
    files: Files = {}
    for path, parts in found.items():
        [content] = {row["content_hash"] for row in parts.values()}
        version = int(content.partition("-")[0])
        assert parts.keys() == {part_of(n, len(parts)) for n in range(len(parts))}, f"torn: {path}"
        for number, vector in enumerate(vectors(path, version, len(parts))):
            assert parts[part_of(number, len(parts))]["vector"] == vector.tolist(), path
        files[path] = [version, len(parts)]
    return files


def changed(files: Files, name: str, chance: random.Random) -> Files:
    """Other files: some are new, some have another content, some are gone."""
    after = dict(files)
    for path in chance.sample(sorted(files), len(files) // 6):
        if len(files) > 60 and chance.random() < 0.7:
            del after[path]
        else:
            after[path] = [files[path][0] + 1, chance.randint(1, 3)]
    for _ in range(chance.randint(1, 12)):
        after[f"/{name}/{chance.randrange(10**9)}"] = [0, chance.randint(1, 3)]
    return after


def merge(location: str, name: str, log: Log, chance: random.Random) -> None:
    table = LanceTable.create(location, SPACE)
    _, intended, _ = log.read()
    if intended is not None:  # what was in flight is there as a whole, or not at all
        log.write(files_in(table, f"/{name}/"))
        log.write("ack")
    while True:
        before, _, _ = log.read()
        after = changed(before, name, chance)
        log.write(after)
        touched = [p for p in {**before, **after} if before.get(p) != after.get(p)]
        new = [stored(path, *after[path]) for path in touched if path in after]
        table.replace_files([file_key_of(path) for path in touched], table_of(new, SPACE))
        log.write("ack")
        shared = chance.randrange(10**6)
        table.merge(table_of([stored(f"/shared/{shared % 50}", 0, 2)], SPACE))


def export(location: str, name: str, log: Log, chance: random.Random, directory: Path) -> None:
    library = (
        open_library(directory) if library_exists(directory) else create_library(directory, SPACE)
    )
    while True:
        acknowledged, intended, _ = log.read()
        before = intended or acknowledged  # a kill leaves the library at either
        after = changed(before, name, chance)
        log.write(after)
        with library.writer(), library.catalog.transaction() as transaction:
            transaction.add_sources({f"/{name}": None})
            first = transaction.row_count(SPACE.id, Modality.IMAGE)
            drawn = [vectors(path, *of) for path, of in after.items()]
            library.embeddings(SPACE, Modality.IMAGE).write(np.concatenate(drawn), first)
            transaction.extend_rows(SPACE.id, Modality.IMAGE, first, sum(map(len, drawn)))
            updates = []
            for path, (version, parts) in after.items():
                items = [
                    ItemEntry(Modality.IMAGE, first + n, part_of(n, parts)) for n in range(parts)
                ]
                updates.append(FileUpdate(entry_of(path, version), items))
                first += parts
            transaction.record_files(SPACE.id, updates)
            known = [file.path for file in transaction.indexed_files()]
            transaction.mark_removed(path for path in known if path not in after)
        export_library(library, location)
        log.write("ack")


def main() -> None:
    location, work, name, kind, seed = sys.argv[1:]
    log = Log(Path(work) / f"{name}.log")
    chance = random.Random(f"{seed} {log.read()[2]}")
    if kind == "merge":
        merge(location, name, log, chance)
    else:
        export(location, name, log, chance, Path(work) / f"library-{name}")


if __name__ == "__main__":
    main()
