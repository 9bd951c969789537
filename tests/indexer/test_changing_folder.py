"""A folder that changes in every way between runs, against a plain model of what is in it."""

import fnmatch
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from indexer.decode import is_stable
from indexer.ignore_files import IGNORE_FILE_NAME
from indexer.scan import FoundFile, compare, walk
from retrieval.catalog import FileState, KnownFile

SECOND = 1_000_000_000
directories = st.sampled_from(["x", "y", "x/y", "x/y/z", ".hidden"])
places = st.one_of(st.just(""), directories)
files = st.builds(os.path.join, places, st.sampled_from(["a.jpg", "b.png", "c.jpg"]))
patterns = st.sampled_from(["a.jpg", "*.png", "y", "z/", "/x"])


@dataclass
class File:
    """A file on the disk. `version` is another one whenever its content or time is another one."""

    content: bytes
    mtime_ns: int
    version: int


@dataclass
class Link:
    target: str


@dataclass
class Read:
    """What the model remembers of a read: whether another one is needed can be told from it."""

    version: int
    was_stable: bool


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def parents(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]


def is_below(path: str, directory: str) -> bool:
    return path.startswith(directory + "/")


def is_indexed(file: KnownFile) -> bool:
    return file.state is FileState.INDEXED


class ChangingFolder(RuleBasedStateMachine):
    """Applies each comparison to a catalog; afterwards the catalog must say what the folder does.

    Times are set by a clock of the model's own, so that what happens within one of its steps is
    chosen and not left to the speed of the machine.
    """

    def __init__(self, without_privileges):
        super().__init__()
        self.without_privileges = without_privileges
        self.root = Path(tempfile.mkdtemp())
        self.root.chmod(0o755)
        self.now_ns = 1_700_000_000 * SECOND
        self.versions = 0
        self.steps = 0
        self.entries: dict[str, File | Link] = {}
        self.directories: set[str] = set()
        self.closed: set[str] = set()
        self.ignored: dict[str, str] = {}
        self.catalog: dict[str, KnownFile] = {}
        self.reads: dict[str, Read] = {}

    def teardown(self):
        for directory in self.closed:
            (self.root / directory).chmod(0o755)
        shutil.rmtree(self.root)

    # What a folder can go through

    @rule(path=files, length=st.integers(8, 9))
    def write(self, path, length):
        if self.make_directory(parent(path)):
            self.wait()
            self.put(path, length)

    @rule(data=st.data())
    @precondition(lambda self: self.written_now())
    def write_again_in_the_instant_of_a_run(self, data):
        path = data.draw(st.sampled_from(self.written_now()))
        self.run()
        self.put(path, len(self.entries[path].content))

    @rule(data=st.data())
    @precondition(lambda self: self.paths(File))
    def touch(self, data):
        path = data.draw(st.sampled_from(self.paths(File)))
        file = self.entries[path]
        self.wait()
        self.versions += 1
        file.mtime_ns, file.version = self.now_ns, self.versions
        os.utime(self.root / path, ns=(self.now_ns, self.now_ns))

    @rule(data=st.data())
    @precondition(lambda self: self.paths(File | Link))
    def delete(self, data):
        path = data.draw(st.sampled_from(self.paths(File | Link)))
        (self.root / path).unlink()
        del self.entries[path]

    @rule(data=st.data(), new=files)
    @precondition(lambda self: self.paths(File))
    def rename(self, data, new):
        old = data.draw(st.sampled_from(self.paths(File)))
        if self.make_directory(parent(new)):
            (self.root / old).replace(self.root / new)
            self.entries[new] = self.entries.pop(old)

    @rule(old=directories, new=directories)
    def move_directory(self, old, new):
        is_possible = old in self.directories and new not in self.directories
        if is_possible and not is_below(new, old) and not self.is_behind_closed(old, new):
            if not self.make_directory(parent(new)):
                return
            (self.root / old).rename(self.root / new)
            self.directories = {self.moved(path, old, new) for path in self.directories}
            self.closed = {self.moved(path, old, new) for path in self.closed}
            for mapping in (self.entries, self.ignored):
                values = {self.moved(path, old, new): value for path, value in mapping.items()}
                mapping.clear()
                mapping.update(values)

    @rule(directory=directories)
    def delete_directory(self, directory):
        holds_closed = any(is_below(path, directory) for path in self.closed)
        if directory not in self.directories or self.is_behind_closed(directory):
            return
        if not holds_closed:
            shutil.rmtree(self.root / directory)
            for place in (self.entries, self.ignored):
                for path in [path for path in place if is_below(f"{path}/", directory)]:
                    del place[path]
            self.directories = {
                path for path in self.directories if not is_below(f"{path}/", directory)
            }

    @rule()
    @precondition(lambda self: not self.closed)
    def delete_everything(self):
        shutil.rmtree(self.root)
        self.root.mkdir()
        for place in (self.entries, self.directories, self.ignored):
            place.clear()

    @rule(directory=directories)
    def close_or_open(self, directory):
        if directory in self.directories and not self.is_behind_closed(parent(directory)):
            self.closed ^= {directory}
            (self.root / directory).chmod(0 if directory in self.closed else 0o755)

    @rule(path=files, to=files)
    def link(self, path, to):
        if path not in self.entries and self.make_directory(parent(path)):
            (self.root / path).symlink_to(self.root / to)
            self.entries[path] = Link(to)

    @rule(place=places, pattern=patterns)
    def ignore(self, place, pattern):
        if self.make_directory(place):
            (self.root / place / IGNORE_FILE_NAME).write_text(pattern)
            self.ignored[place] = pattern

    @rule(data=st.data())
    @precondition(lambda self: self.ignored)
    def ignore_no_more(self, data):
        place = data.draw(st.sampled_from(sorted(self.ignored)))
        if not self.is_behind_closed(place):
            (self.root / place / IGNORE_FILE_NAME).unlink()
            del self.ignored[place]

    @rule()
    def wait(self):
        self.now_ns += 10 * SECOND

    # A run

    @invariant()
    def run_now_and_then(self):
        """Hypothesis would leave runs out of many of its examples, which then show nothing."""
        self.steps += 1
        if self.steps % 3 == 0:
            self.run()

    @rule()
    def run(self):
        before = dict(self.catalog)
        expected = {path: self.resolve(path) for path in self.entries if self.is_visible(path)}
        there = {path: file for path, file in expected.items() if file}
        is_empty = not (self.entries or self.directories or self.ignored)
        protected = {path for path in before if is_empty or self.is_unlisted(path)}
        with self.without_privileges():
            found = list(walk(str(self.root)))
        known = [self.with_root(file) for file in before.values()]
        result = compare(found, known)

        assert {e.path for e in found if isinstance(e, FoundFile)} == set(map(self.absolute, there))
        to_read = {self.relative(file.path) for file in result.to_read}
        assert to_read == {path for path, file in there.items() if not self.is_current(path, file)}
        assert result.unchanged == len(there) - len(to_read)
        assert set(map(self.relative, result.gone)) == {
            path
            for path, file in before.items()
            if file.state is not FileState.REMOVED and path not in expected.keys() | protected
        }

        self.apply(result, before, to_read, expected.keys() - there.keys())
        kept = {path: before[path].content_hash for path in protected if is_indexed(before[path])}
        assert {p: f.content_hash for p, f in self.catalog.items() if is_indexed(f)} == {
            **kept,
            **{path: file.content.decode() for path, file in there.items()},
        }

    def apply(self, result, before, to_read, broken_links):
        """Do to the catalog what the comparison says, as an indexer would."""
        for path in map(self.relative, result.gone):
            self.set_state(path, FileState.REMOVED)
        for path in broken_links & before.keys():
            self.set_state(path, FileState.FAILED)
        gone = [f for p, f in self.catalog.items() if f.state is FileState.REMOVED and p in before]
        candidates = Counter(f.content_hash for f in gone if f.path not in to_read)
        new, moved = Counter(), Counter()
        for file in result.to_read:
            path = self.relative(file.path)
            # A content stands for its own hash.
            content = (self.root / path).read_text()
            stable = is_stable(file.mtime_ns, self.now_ns)
            origin = result.take_moved(file.path, file.size, content)
            new[content] += path not in before
            if origin:
                assert path not in before
                assert origin.content_hash == content
                moved[content] += 1
                del self.catalog[self.relative(origin.path)]
            self.catalog[path] = KnownFile(
                path,
                FileState.INDEXED,
                file.size,
                file.mtime_ns if stable else -1,
                content,
                embedded=True,
            )
            self.reads[path] = Read(self.resolve(path).version, stable)
        assert moved == new & candidates

    # The model

    def put(self, path, length):
        self.versions += 1
        content = f"{self.versions:0{length}}".encode()
        place = self.root / path
        place.unlink(missing_ok=True)
        place.write_bytes(content)
        os.utime(place, ns=(self.now_ns, self.now_ns))
        self.entries[path] = File(content, self.now_ns, self.versions)

    def make_directory(self, directory) -> bool:
        if self.is_behind_closed(directory):
            return False
        (self.root / directory).mkdir(parents=True, exist_ok=True)
        self.directories |= {directory, *parents(directory)} - {""}
        return True

    def paths(self, kind) -> list[str]:
        return sorted(
            path
            for path, entry in self.entries.items()
            if isinstance(entry, kind) and not self.is_behind_closed(path)
        )

    def written_now(self) -> list[str]:
        return [path for path in self.paths(File) if self.entries[path].mtime_ns == self.now_ns]

    def is_behind_closed(self, *paths) -> bool:
        return any({path, *parents(path)} & self.closed for path in paths)

    def is_visible(self, path) -> bool:
        hidden = any(part.startswith(".") for part in path.split("/"))
        return not (hidden or self.is_ignored(path) or self.is_behind_closed(path))

    def is_unlisted(self, path) -> bool:
        """Whether a walk comes to a closed directory above a path."""
        return any(
            not self.is_ignored(f"{directory}/") and not directory.startswith(".")
            for directory in [*parents(path)][::-1]
            if directory in self.closed and not self.is_behind_closed(*parents(directory))
        )

    def is_ignored(self, path) -> bool:
        """By its own name or that of a directory above it. `path` ends in / for a directory."""
        return any(
            self.is_matched(path[len(place) :].lstrip("/"), pattern)
            for place, pattern in self.ignored.items()
            if (not place or is_below(path, place)) and not self.is_behind_closed(place)
        )

    @staticmethod
    def is_matched(path, pattern) -> bool:
        *above, last = path.rstrip("/").split("/")
        names = [f"{name}/" for name in above] + [last + "/" * path.endswith("/")]
        if pattern.startswith("/"):
            return names[0].rstrip("/") == pattern.strip("/")
        if pattern.endswith("/"):
            return pattern in names
        return any(fnmatch.fnmatchcase(name.rstrip("/"), pattern) for name in names)

    def resolve(self, path) -> File | None:
        """The file that a path leads to, if somebody without privileges can get there."""
        for _ in range(len(self.entries) + 1):
            entry = self.entries.get(path)
            if not isinstance(entry, Link):
                return None if self.is_behind_closed(path) else entry
            if self.is_behind_closed(path):
                return None
            path = entry.target
        return None

    def is_current(self, path, file) -> bool:
        known = self.catalog.get(path)
        if known is None or known.state is not FileState.INDEXED:
            return False
        return self.reads[path].was_stable and self.reads[path].version == file.version

    def set_state(self, path, state):
        known = self.catalog[path]
        if state is FileState.FAILED:
            self.catalog[path] = KnownFile(path, state, -1, -1, None, embedded=False)
        else:
            self.catalog[path] = KnownFile(
                path, state, known.size, known.mtime_ns, known.content_hash, embedded=True
            )

    def with_root(self, file) -> KnownFile:
        return KnownFile(
            self.absolute(file.path),
            file.state,
            file.size,
            file.mtime_ns,
            file.content_hash,
            file.embedded,
        )

    def absolute(self, path) -> str:
        return str(self.root / path)

    def relative(self, path) -> str:
        return os.path.relpath(path, self.root)

    @staticmethod
    def moved(path, old, new) -> str:
        return new + path[len(old) :] if path == old or is_below(path, old) else path


@pytest.mark.slow
def test_the_catalog_says_what_a_changing_folder_does(without_privileges):
    run_state_machine_as_test(
        partial(ChangingFolder, without_privileges),
        settings=settings(max_examples=80, stateful_step_count=40),
    )
