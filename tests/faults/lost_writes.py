"""What a disk holds after a power cut: only what was flushed, and any of the rest.

A program runs with `lost_writes.c` preloaded, which records what it does to files. The record is
replayed to an instant: contents count up to their last flush (fsync), names up to the last flush of
their directory. Of what came later, everything is lost, or each write by chance.
"""

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

_HEAD = struct.Struct("=cQqII")
_SOURCE = Path(__file__).with_suffix(".c")


def compiled(folder: Path, compiler: str) -> Path:
    """Compile the recorder."""
    library = folder / "lost_writes.so"
    options = ["-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl", "-lpthread"]
    subprocess.run([compiler, *options], check=True, capture_output=True)
    return library


@dataclass(frozen=True)
class Event:
    """One call. what: Create, Write, Truncate, Sync, Unlink, mkDir, Rename."""

    what: str
    inode: int
    offset: int
    path: str
    data: bytes


def read_events(log: Path) -> list[Event]:
    """Read a record, in order."""
    content, at, events = log.read_bytes(), 0, []
    while at < len(content):
        what, inode, offset, path_length, data_length = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        path = os.fsdecode(content[at : at + path_length])
        at += path_length
        events.append(Event(what.decode(), inode, offset, path, content[at : at + data_length]))
        at += data_length
    return events


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""
    pending: list[Event] = field(default_factory=list)

    def flush(self) -> None:
        self.flushed, self.pending = bytes(self.content), []


def _apply(content: bytearray, event: Event) -> None:
    if event.what == "T":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    content.extend(bytes(max(0, event.offset - len(content))))
    content[event.offset : event.offset + len(event.data)] = event.data


class Disk:
    """Files as programs see them, and as they are on the disk."""

    def __init__(self) -> None:
        self._by_inode: dict[int, _File] = {}
        self._names: dict[str, _File | None] = {}
        self._flushed: dict[str, _File | None] = {}
        self._pending: list[tuple[str, str | None, _File | None]] = []

    def apply(self, event: Event) -> None:
        """Take in the next call."""
        what, path = event.what, event.path
        if what == "C":
            self._by_inode[event.inode] = self._names[path] = _File()
            self._pending.append((path, None, self._names[path]))
        elif what == "D":
            self._names[path] = None
            self._pending.append((path, None, None))
        elif what == "U":
            self._names.pop(path, None)
            self._pending.append((path, path, None))
        elif what == "R":
            to = os.fsdecode(event.data)
            moved = self._names.pop(path)
            self._names[to] = moved
            self._pending.append((to, path, moved))
        elif what in "WT" and event.inode in self._by_inode:
            file = self._by_inode[event.inode]
            _apply(file.content, event)
            file.pending.append(event)
        elif what == "S" and self._names.get(path) is None:
            self._flush_names(path)  # a directory, whose inode may have been a file's before
        elif what == "S":
            self._by_inode[event.inode].flush()

    def _flush_names(self, folder: str) -> None:
        later = []
        for change in self._pending:
            if os.path.dirname(change[0]) == folder:  # noqa: PTH120
                self._change(self._flushed, change)
            else:
                later.append(change)
        self._pending = later

    @staticmethod
    def _change(
        names: dict[str, _File | None], change: tuple[str, str | None, _File | None]
    ) -> None:
        path, gone, file = change
        if gone is not None:
            names.pop(gone, None)
        if gone != path:
            names[path] = file

    def after_power_cut(self, chance: Random | None) -> Iterator[tuple[str, bytes | None]]:
        """Yield what is left: paths with contents, None for directories, parents first.

        chance: decides what else got to the disk; None: nothing did.
        """
        names = dict(self._flushed)
        for change in self._pending if chance else ():
            if chance.random() < 0.5:
                self._change(names, change)
        for path in sorted(names):
            file = names[path]
            if file is None:
                yield path, None
                continue
            content = bytearray(file.flushed)
            for event in file.pending if chance else ():
                if chance.random() < 0.5:
                    _apply(content, event)
            yield path, bytes(content)
