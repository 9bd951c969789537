"""Records in a table what the machines of a cluster read and encoded, idempotently.

Rows are merged by key in one commit a batch: what is recorded twice, by a job that was killed and
run again or by two at once, is there once.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from indexer.cluster.stages import NumberedStep
from indexer.encode import EncodedStep
from indexer.progress import Summary
from indexer.scan import Comparison, FoundFile
from retrieval.catalog import FailedFile, FileEntry, FileState, ItemEntry, KnownFile
from retrieval.catalog.whole import Said, StoredFile, StoredItem
from retrieval.lance.records import files_of, said_in, stored_file, table_of
from retrieval.lance.schema import file_key_of
from retrieval.lance.snapshot import path_of
from retrieval.lance.table import LanceTable, of_files, quoted
from retrieval.media import MediaKind
from retrieval.media.registry import format_of_indexed

_KNOWN_COLUMNS = (
    *("path", "path_bytes", "kind", "size", "mtime_ns", "content_hash", "failure"),
    *("is_complete", "sidecars", "metadata_version", "etag"),
)
_FILES_AT_ONCE = 2000
"""Files that one predicate names."""


@dataclass
class KnownFiles:
    """The files of a table: by path, and the content hashes of each size and kind."""

    by_path: dict[str, KnownFile] = field(default_factory=dict)
    contents: dict[tuple[int, str], set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: LanceTable) -> "KnownFiles":
        """Read them from a version of a table."""
        known = cls()
        for batch in table.scan(_KNOWN_COLUMNS, in_order=False):
            for row in batch.to_pylist():
                known._add(row)
        return known

    def hashes_for(self, found: FoundFile) -> frozenset[str]:
        """Return the content hashes that spare the reading of a file."""
        # What a table says of images depends on where it lies.
        if found.kind is MediaKind.TABLE:
            before = self.by_path.get(found.path)
            own = before and before.embedded and before.content_hash
            return frozenset([own] if own else [])
        return frozenset(self.contents.get((found.size, str(found.kind)), ()))

    def _add(self, row: Mapping[str, Any]) -> None:
        path = path_of(row)
        if path in self.by_path:
            return  # a further item of the file
        has_failed = row["failure"] is not None
        content = row["content_hash"]
        is_embedded = bool(row["is_complete"]) and not has_failed and content is not None
        self.by_path[path] = KnownFile(
            path,
            FileState.FAILED if has_failed else FileState.INDEXED,
            row["size"],
            row["mtime_ns"],
            content,
            is_embedded,
            row["sidecars"],
            row["metadata_version"] or 0,
            row["etag"],
        )
        if is_embedded:
            self.contents.setdefault((row["size"], row["kind"]), set()).add(content)


class Steps:
    """Collects steps through files, in any order, until a file is whole."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, EncodedStep]] = {}
        self._last: dict[str, int] = {}

    def add(self, steps: Iterable[NumberedStep]) -> list[list[EncodedStep]]:
        """Take in some steps; returns those of each file that is whole now, in their order."""
        whole = []
        for numbered in steps:
            path = numbered.step.found.path
            of_file = self._open.setdefault(path, {})
            of_file[numbered.number] = numbered.step
            if numbered.step.is_last:
                self._last[path] = numbered.number
            if len(of_file) == self._last.get(path, -2) + 1:
                whole.append([of_file[number] for number in sorted(of_file)])
                del self._open[path], self._last[path]
        return whole


class Recorder:
    """Writes to a table what a run finds, and counts it."""

    def __init__(
        self,
        table: LanceTable,
        sources: Sequence[str],
        comparison: Comparison,
        summary: Summary,
    ) -> None:
        self._table = table
        self._sources = sources
        self._comparison = comparison
        self._summary = summary
        self._gone = set(comparison.gone)
        self._moved: set[str] = set()
        self.has_written = False
        """Whether the table has changed."""
        self._said: dict[str, list[Said]] = {}
        self._tables_read: set[str] = set()

    def record(self, files: Sequence[Sequence[EncodedStep]]) -> list[FoundFile]:
        """Record whole files in one commit, or one for those that are new and one for the others.

        Returns those to be read again, since the content that they were known by is not in the
        table any more.
        """
        stored: list[StoredFile] = []
        known: list[EncodedStep] = []
        for steps in files:
            first = steps[0]
            if first.is_known:
                known.append(first)
                continue
            stored.append(self._stored(steps))
            self._note_annotations(steps)
        copied, again = self._copied(known)
        self._write([*self._with_what_tables_said(stored), *copied])
        return again

    def record_unlisted(self) -> None:
        """Record folders and files that could not be looked at, as failures."""
        self._write([_failed(one) for one in self._comparison.unlisted])

    def finish(self) -> None:
        """Delete what is gone, and add what tables say of images."""
        gone = sorted(self._gone)
        self.has_written |= bool(gone)
        tables = {path for path in gone if format_of_indexed(path).kind is MediaKind.TABLE}
        self._annotate(self._tables_read | tables)
        for some in _parts(gone):
            self._table.delete_files([file_key_of(path) for path in some])
        self._summary.removed += len(gone) - len(self._moved)

    def _stored(self, steps: Sequence[EncodedStep]) -> StoredFile:
        """Join the steps through a file; counts it."""
        first = steps[0]
        failure = next((step.failure for step in steps if step.failure), None)
        if failure is not None:
            self._summary.failed += 1
            return _failed(failure)
        assert first.content is not None
        content = first.content
        entry = FileEntry(
            first.found.path,
            first.found.kind,
            content.size,
            content.mtime_ns,
            content.hash,
            first.metadata,
            first.found.sidecars_state,
            content.etag,
        )
        items = [
            StoredItem(
                ItemEntry(piece.modality, -1, text=piece.text, **vars(piece.locator)), piece.vector
            )
            for step in steps
            for piece in step.pieces
            if piece.vector is not None
        ]
        notes = tuple(note for step in steps for note in step.notes)
        before = self._comparison.known.get(first.found.path)
        is_change = (
            before is not None
            and before.state is FileState.INDEXED
            and before.content_hash != content.hash
        )
        self._summary.changed += is_change
        self._summary.added += not is_change
        self._summary.noted += bool(notes)
        self._summary.embedded += len(items)
        return stored_file(entry, items, notes=notes, etag=content.etag)

    def _note_annotations(self, steps: Sequence[EncodedStep]) -> None:
        table = steps[0].found
        if table.kind is not MediaKind.TABLE or steps[0].content is None:
            return
        self._tables_read.add(table.path)
        for step in steps:
            for said in step.annotations:
                self._said.setdefault(said.image_path, []).append((table.path, said.columns))

    def _with_what_tables_said(self, stored: Sequence[StoredFile]) -> Iterator[StoredFile]:
        """Keep what tables said of files that are replaced."""
        replaced = [s.file.path for s in stored if s.file.path in self._comparison.known]
        before: dict[str, tuple[Said, ...]] = {}
        for some in _parts(replaced):
            rows = self._table.read(
                ("path", "path_bytes", "said"), of_files(map(file_key_of, some))
            )
            for row in rows.to_pylist():
                path = path_of(row)
                said = said_in(row["said"])
                before[path] = tuple(one for one in said if one[0] != path)
        for one in stored:
            kept = before.get(one.file.path, ())
            yield replace(one, said=(*one.said, *kept)) if kept else one

    def _copied(self, known: Sequence[EncodedStep]) -> tuple[list[StoredFile], list[FoundFile]]:
        """Give files whose content the table has the vectors of it."""
        if not known:
            return [], []
        hashes = {step.content.hash for step in known if step.content}
        holders: dict[str, list[StoredFile]] = {}
        for some in _parts(sorted(hashes)):
            names = self._table.dataset.schema.names
            rows = self._table.read(names, f"content_hash IN ({', '.join(map(quoted, some))})")
            for file in files_of(rows):
                if file.is_complete and file.failure is None:
                    holders.setdefault(file.file.content_hash, []).append(file)
        copied, again = [], []
        for step in known:
            assert step.content is not None
            path = step.found.path
            candidates = [
                one
                for one in holders.get(step.content.hash, ())
                if one.file.kind is step.found.kind
                and (one.file.path == path or one.file.sidecars is None)
            ]
            own = next((one for one in candidates if one.file.path == path), None)
            moved = next((one for one in candidates if one.file.path in self._gone), None)
            holder = own or moved or next(iter(candidates), None)
            if holder is None or holder.file.sidecars != step.found.sidecars_state:
                again.append(step.found)
                continue
            self._count_known(step, holder, is_own=holder is own, is_moved=holder is moved)
            copied.append(_as_at(step, holder, keeps=holder is own or holder is moved))
        return copied, again

    def _count_known(
        self, step: EncodedStep, holder: StoredFile, *, is_own: bool, is_moved: bool
    ) -> None:
        before = self._comparison.known.get(step.found.path)
        if is_own:
            self._summary.unchanged += 1
        elif is_moved:
            self._moved.add(holder.file.path)
            self._summary.moved += 1
        else:
            is_change = before is not None and before.state is FileState.INDEXED
            self._summary.duplicates += 1
            self._summary.changed += is_change
            self._summary.added += not is_change

    def _annotate(self, tables: set[str]) -> None:
        """Let images have what tables say of them now, and not what these said before."""
        paths = set(self._said)
        for table in sorted(tables & (self._gone | self._comparison.known.keys())):
            says = f"contains(said, {quoted(os.fsencode(table).hex())})"
            rows = self._table.read(("path", "path_bytes"), says)
            paths.update(map(path_of, rows.to_pylist()))
        names = self._table.dataset.schema.names
        for some in _parts(sorted(paths - self._gone)):
            files = files_of(self._table.read(names, of_files(map(file_key_of, some))))
            told = [
                replace(
                    file,
                    said=(
                        *(one for one in file.said if one[0] not in tables),
                        *self._said.get(file.file.path, ()),
                    ),
                )
                for file in files
            ]
            self._table.merge(self._rows(told))

    def _write(self, files: Iterable[StoredFile]) -> None:
        by_path = {file.file.path: file for file in files}
        self.has_written |= bool(by_path)
        known = [path for path in by_path if path in self._comparison.known]
        new = [file for path, file in by_path.items() if path not in self._comparison.known]
        if new:
            self._table.merge(self._rows(new))
        for some in _parts(known):
            rows = self._rows([by_path[path] for path in some])
            self._table.replace_files([file_key_of(path) for path in some], rows)

    def _rows(self, files: Sequence[StoredFile]) -> Any:
        return table_of(files, self._table.space, self._sources)


def _as_at(step: EncodedStep, holder: StoredFile, *, keeps: bool) -> StoredFile:
    """Describe a file by another one of the same content, or as it was before.

    keeps: what people said of its items, and tables of it, stays.
    """
    assert step.content is not None
    found, before = step.found, holder.file.path
    file = replace(
        holder.file,
        path=found.path,
        size=step.content.size,
        mtime_ns=step.content.mtime_ns,
        sidecars=found.sidecars_state,
    )
    said = [
        (found.path if of == before else of, columns)
        for of, columns in holder.said
        if keeps or of == before
    ]
    items = holder.items
    if not keeps:
        items = [replace(item, hidden=False, collections=()) for item in items]
    return replace(holder, file=file, items=items, said=said, etag=step.content.etag)


def _failed(failed: FailedFile) -> StoredFile:
    kind = format_of_indexed(failed.path).kind
    entry = FileEntry(failed.path, kind, failed.size, failed.mtime_ns, "")
    return stored_file(entry, (), failure=failed.failure, etag=failed.etag)


def _parts(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(paths), _FILES_AT_ONCE):
        yield paths[begin : begin + _FILES_AT_ONCE]
