"""Write the catalog."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from retrieval.catalog import cells, collections, derived, enrichments, facets
from retrieval.catalog.fulltext import index as text_index
from retrieval.catalog.paths import is_at_or_below, reroot
from retrieval.catalog.records import (
    FailedFile,
    FileEntry,
    FileState,
    FileUpdate,
    ItemEntry,
    Relocated,
    SavedSearch,
    Seen,
)
from retrieval.catalog.schema import (
    IS_OLD_METADATA,
    ITEM_COLUMNS,
    METADATA_VERSION,
    PARAMETERS_PER_STATEMENT,
    AnnotationRecord,
    EmbeddedFileRecord,
    EnrichmentRecord,
    ExtentRecord,
    FileRecord,
    ItemRecord,
    NoteRecord,
    RowRecord,
    SourceRecord,
    at_or_below,
    checksums_of,
    chunks,
    next_id,
)
from retrieval.catalog.snapshot import METADATA, Snapshot
from retrieval.catalog.whole import Said
from retrieval.errors import DamagedLibraryError
from retrieval.media import (
    METADATA_NOTE,
    UNTRUSTED_MTIME,
    MediaKind,
    Metadata,
    Modality,
    local_clock_seconds,
)
from retrieval.recognition.base import Recognized, Task

_Key = TypeVar("_Key")


class Transaction(Snapshot):
    """Reads and writes that take effect together or not at all."""

    def add_sources(self, options_by_path: Mapping[str, dict[str, Any] | None]) -> None:
        """Add sources with their options; None keeps the options of a known source."""
        now = int(time.time())
        known = set(self.sources())
        for path, options in options_by_path.items():
            if path not in known:
                self._connection.execute(
                    sa.insert(SourceRecord).values(path=path, added_at=now, options=options)
                )
                text_index.refresh_files_below(self._connection, path)
            elif options is not None:
                self._connection.execute(
                    sa.update(SourceRecord).filter_by(path=path).values(options=options)
                )

    def record_seen(self, seen: Mapping[str, Seen]) -> None:
        """Record what a walk of each source met but did not take in, by the source's path."""
        for path, one in seen.items():
            self._connection.execute(
                sa.update(SourceRecord).filter_by(path=path).values(seen=one.to_json())
            )

    def remove_sources_below(self, root: str) -> int:
        """Remove the sources at or below a path; returns their number."""
        return self._connection.execute(
            sa.delete(SourceRecord).where(at_or_below(root, SourceRecord.path))
        ).rowcount

    def place_sources(self, beside: Mapping[str, str | None]) -> None:
        """Record the way from the library's directory to some sources; None: they are unrelated."""
        for path, way in beside.items():
            self._connection.execute(
                sa.update(SourceRecord).filter_by(path=path).values(beside=way)
            )

    def relocate(self, old: str, new: str) -> Relocated:
        """Re-root what is at or below a path: sources, files, and images that tables annotate.

        Items keep their ids and vectors. Where another file is known at the new path, that one
        stays, and the old one is hidden. A source that is known at the new path keeps its options.
        """
        self._relocate_sources(old, new)
        files = self._connection.execute(
            sa.select(FileRecord.id, FileRecord.path, FileRecord.state).where(
                # That the source itself could not be read is said of its old path.
                at_or_below(old),
                sa.or_(FileRecord.path != old, FileRecord.state != FileState.FAILED),
            )
        ).all()
        old_paths = {path: file_id for file_id, path, _ in files}
        if old not in old_paths:
            self.mark_removed([old])
        moved, hidden = _plan_moves(
            old_paths, old, new, set(self._ids_of_files([reroot(p, old, new) for p in old_paths]))
        )
        # One statement a file, in this order, since each must find its new path free.
        if moved:
            self._connection.execute(
                sa.update(FileRecord).where(FileRecord.id == sa.bindparam("known_id")),
                [{"known_id": old_paths[path], "path": reroot(path, old, new)} for path in moved],
            )
        annotated = self._relocate_annotations(old, new)
        count = self.mark_removed(hidden)
        refreshed = {old_paths[path] for path in moved}
        self._refresh_derived(refreshed)
        self._refresh_said({*old_paths.values(), *self._ids_of_files(annotated).values()})
        self.hand_over_to_copies()
        found = sum(state == FileState.INDEXED and i in refreshed for i, _, state in files)
        return Relocated(found, count)

    def _relocate_sources(self, old: str, new: str) -> None:
        known = self.sources()
        olds = [path for path in known if is_at_or_below(path, old)]
        moved, replaced = _plan_moves(olds, old, new, set(known))
        self._delete(SourceRecord.path, replaced)
        for path in moved:
            self._connection.execute(
                sa.update(SourceRecord)
                .filter_by(path=path)
                .values(path=reroot(path, old, new), beside=None)
            )

    def _relocate_annotations(self, old: str, new: str) -> set[str]:
        """Re-root the images that tables annotate; returns their new paths."""
        found = self._connection.execute(
            sa.select(AnnotationRecord.id, AnnotationRecord.image_path).where(
                at_or_below(old, AnnotationRecord.image_path)
            )
        ).all()
        if found:
            self._connection.execute(
                sa.update(AnnotationRecord).where(AnnotationRecord.id == sa.bindparam("known_id")),
                [{"known_id": i, "image_path": reroot(path, old, new)} for i, path in found],
            )
        return {reroot(path, old, new) for _, path in found}

    def extend_rows(self, space_id: str, modality: Modality, first_row: int, count: int) -> None:
        """Commit rows first_row .. first_row+count-1 of a space.

        The vectors must be on the disk already, with their checksums. These count unless there are
        rows before them that have none. Raises DamagedLibraryError when first_row is not the end of
        the committed rows.
        """
        committed = self.row_count(space_id, modality)
        all_have_checksums = self.checksum_count(space_id, modality) == committed
        if first_row != committed:
            raise DamagedLibraryError(
                f"rows were written at {first_row}, but {committed} are committed"
            )
        if count:
            self._set_row_count(space_id, modality, first_row + count)
        if count and all_have_checksums:
            self._set_row_count(space_id, checksums_of(modality), first_row + count)

    def set_checksum_count(self, space_id: str, modality: Modality, count: int) -> None:
        """Commit the checksums of the first `count` rows, which must be on the disk already."""
        self._set_row_count(space_id, checksums_of(modality), count)

    def forget_vectors(self, space_id: str, modality: Modality, rows: Sequence[int]) -> None:
        """Forget the vectors at some rows: the next run of the indexer reads their files again.

        Items keep their ids. Of texts that were found in these files, all are forgotten: passages
        are made again of whole texts only.
        """
        at_rows = sa.and_(RowRecord.space_id == space_id, RowRecord.modality == modality)
        file_ids: set[int] = set()
        for chunk in chunks(rows):
            query = (
                sa.select(ItemRecord.file_id)
                .join(RowRecord, RowRecord.item_id == ItemRecord.id)
                .where(at_rows, RowRecord.row.in_(chunk))
            )
            file_ids.update(self._connection.scalars(query))
        self._delete(RowRecord.row, rows, at_rows)
        if modality is Modality.TEXT:
            passages = sa.select(ItemRecord.id).where(
                ItemRecord.modality == Modality.TEXT, ItemRecord.part.like("%-%")
            )
            for chunk in chunks(sorted(file_ids)):
                of_files = passages.where(ItemRecord.file_id.in_(chunk))
                self._delete(RowRecord.item_id, self._connection.scalars(of_files).all(), at_rows)
        self._delete(EmbeddedFileRecord.file_id, file_ids, EmbeddedFileRecord.space_id == space_id)

    def forget_embedded(self, paths: Sequence[str]) -> None:
        """Have the next run read some files again, in every space; until then they are found."""
        self._delete(EmbeddedFileRecord.file_id, self._ids_of_files(paths).values())

    def record_files(
        self,
        space_id: str,
        updates: Sequence[FileUpdate],
        *,
        said: Mapping[str, Sequence[Said]] | None = None,
        item_ids: Mapping[tuple[str, Modality, str], int] | None = None,
    ) -> None:
        """Record files, their items and the rows of these, which `extend_rows` must have committed.

        The earlier content of a changed file is no longer found. At most one update a file.

        Args:
            space_id: Space of the rows.
            updates: Files with their items.
            said: Of a copy of another library: all that tables, and the files themselves, say of
                these files, by path, in place of what they said before. None: what tables say of
                files stays, and what these tables say is that of their updates.
            item_ids: Ids of new items, by path, modality and part. None: the next ones.
        """
        # Nothing is known of files and items with ids from here on.
        first_file = next_id(self._connection, FileRecord)
        first_item = next_id(self._connection, ItemRecord)
        file_ids: dict[str, int] = {}
        for is_first in (True, False):
            values_of = _values_of if is_first else _values_of_content
            file_ids |= self._save_files(
                {u.file.path: values_of(u.file) for u in updates if u.is_first is is_first}
            )
        known_files = {file_id for file_id in file_ids.values() if file_id < first_file}
        self._drop_stale_rows(known_files)
        again = {file_ids[update.file.path] for update in updates if update.is_first}
        with_words = set(file_ids.values())
        if said is None:
            with_words |= self._drop_annotations(list(again & known_files))
        wanted = {
            (file_ids[update.file.path], item.modality, item.part): (update.file, item)
            for update in updates
            for item in update.items
        }
        # What was one picture has pages, now that all are read.
        paged = [
            file_ids[update.file.path]
            for update in updates
            if update.file.kind is MediaKind.IMAGE
            and any(item.part and item.modality is Modality.IMAGE for item in update.items)
        ]
        for chunk in chunks(sorted(known_files.intersection(paged))):
            whole = sa.select(ItemRecord.id).where(
                ItemRecord.file_id.in_(chunk), ItemRecord.part == ""
            )
            self._connection.execute(sa.delete(RowRecord).where(RowRecord.item_id.in_(whole)))
        ids = self._save_items(
            {key: item for key, (_, item) in wanted.items()},
            self._ids_of_items(key for key in wanted if key[0] in known_files),
            None
            if item_ids is None
            else {
                key: item_ids[file.path, item.modality, item.part]
                for key, (file, item) in wanted.items()
            },
        )
        known_items = [item_id for item_id in ids.values() if item_id < first_item]
        self._delete(RowRecord.item_id, known_items, RowRecord.space_id == space_id)
        self._dialect.insert_rows(
            self._connection,
            RowRecord,
            ("space_id", "item_id", "modality", "row", "content_hash", "file_id"),
            [
                (space_id, ids[key], item.modality, item.row, file.content_hash, key[0])
                for key, (file, item) in wanted.items()
            ],
        )
        annotations = [
            (file_ids[update.file.path], path, columns)
            for update in updates
            for path, columns in (*_own_annotation(update), *update.annotations)
        ]
        if said is not None:
            self._delete(AnnotationRecord.image_path, said)
            tables = self._ids_of_files({of for told in said.values() for of, _ in told})
            annotations = [
                (tables[of], path, columns) for path, told in said.items() for of, columns in told
            ]
        if annotations:
            names = ("file_id", "image_path", "columns")
            self._dialect.insert_rows(self._connection, AnnotationRecord, names, annotations)
            annotated = {path for _, path, _ in annotations}
            with_words |= set(self._ids_of_files(annotated).values())
        self._delete(NoteRecord.file_id, list(again & known_files))
        noted = [(file_ids[update.file.path], note) for update in updates for note in update.notes]
        self._dialect.insert_rows(self._connection, NoteRecord, ("file_id", "note"), noted)
        self._refresh_said(with_words)
        has_found_texts = enrichments.exist(self._connection)
        texts = {
            ids[key]: (item.text, item.columns)
            for key, (_, item) in wanted.items()
            if ids[key] < first_item or item.text or item.columns or has_found_texts
        }
        text_index.refresh_items(self._connection, texts)
        cells.refresh_items(self._connection, {i: columns for i, (_, columns) in texts.items()})
        self._record_embedded(
            space_id,
            {
                file_ids[update.file.path]: update.file.content_hash
                for update in updates
                if update.is_complete
            },
            known_files,
        )

    def record_enrichments(
        self, task: Task, model: str, found: Mapping[str, Recognized], *, subtitles: str = ""
    ) -> None:
        """Record what a recogniser found, by key, in place of what is known; its words count now.

        Items of texts that were found before are deleted; `record_passages` makes new ones.

        Args:
            task: The task.
            model: `identity` of the recogniser.
            found: By `Item.picture_key` or, of speech, the content hash of the file.
            subtitles: Of speech: the state of the subtitles beside the file.
        """
        known = enrichments.read(self._connection, task, found)
        enrichments.record(self._connection, task, model, found, subtitles)
        if task.is_of_pictures:
            item_ids = enrichments.items_of_keys(self._connection, found)
            text_index.refresh_known_items(self._connection, item_ids)
            origins = enrichments.items_of_keys(self._connection, known)
            self._delete_passages(task, origins)
            return
        self._refresh_spoken(enrichments.files_of_contents(self._connection, found))
        for chunk in chunks(enrichments.files_of_contents(self._connection, known)):
            passages = enrichments.passages_of(task, sa.literal(""))
            self._delete_found(sa.and_(ItemRecord.file_id.in_(chunk), passages))

    def record_passages(
        self,
        space_id: str,
        task: Task,
        passages: Mapping[tuple[str, str], tuple[str, Sequence[ItemEntry]]],
    ) -> None:
        """Record found texts as items, in place of those of the same origin in the space.

        Nothing is recorded for a file that has another content by now, or cannot be found. Texts of
        a hidden picture are hidden.

        Args:
            space_id: Space of their rows, which `extend_rows` must have committed.
            task: Who found them.
            passages: By the path of the file and the part of the origin: the content hash of the
                file, and the items, whose parts `found_part` gives.
        """
        files = self.indexed_at(sorted({path for path, _ in passages}))
        current = {
            place: entries
            for place, (content_hash, entries) in passages.items()
            if place[0] in files and files[place[0]].content_hash == content_hash
        }
        file_ids = self._ids_of_files({path for path, _ in current})
        for (path, origin), entries in current.items():
            before = sa.and_(
                ItemRecord.file_id == file_ids[path],
                ItemRecord.modality == Modality.TEXT,
                enrichments.passages_of(task, sa.literal(origin)),
                ItemRecord.part.not_in([entry.part for entry in entries]),
            )
            former = self._connection.scalars(sa.select(ItemRecord.id).where(before)).all()
            self._delete(RowRecord.item_id, former, RowRecord.space_id == space_id)
            # Another space may have other chunks, as its encoder reads more or less at once.
            in_no_space = ~sa.exists().where(RowRecord.item_id == ItemRecord.id)
            self._delete_items(sa.and_(ItemRecord.id.in_(former), in_no_space))
        wanted = {
            (file_ids[path], entry.modality, entry.part): (files[path], entry)
            for (path, _), entries in current.items()
            for entry in entries
        }
        ids = self._save_items(
            {key: entry for key, (_, entry) in wanted.items()}, self._ids_of_items(wanted), None
        )
        self._delete(RowRecord.item_id, ids.values(), RowRecord.space_id == space_id)
        self._dialect.insert_rows(
            self._connection,
            RowRecord,
            ("space_id", "item_id", "modality", "row", "content_hash", "file_id"),
            [
                (space_id, ids[key], entry.modality, entry.row, file.content_hash, key[0])
                for key, (file, entry) in wanted.items()
            ],
        )
        texts = {ids[key]: (entry.text, entry.columns) for key, (_, entry) in wanted.items()}
        text_index.refresh_items(self._connection, texts)
        collections.hide_with_origins(self._connection, list(texts))

    def forget_enrichments(self, task: Task) -> int:
        """Delete all that a task found: texts, words and items; returns the number of items."""
        if task.is_of_pictures:
            found = self._connection.scalars(
                sa.select(ItemRecord.id)
                .join_from(ItemRecord, FileRecord, FileRecord.id == ItemRecord.file_id)
                .join(EnrichmentRecord, EnrichmentRecord.key == enrichments.PICTURE_KEY)
                .where(EnrichmentRecord.task == task, ItemRecord.modality == Modality.IMAGE)
            ).all()
            enrichments.forget(self._connection, task)
            text_index.refresh_known_items(self._connection, found)
        else:
            heard = self._connection.scalars(
                sa.select(FileRecord.id)
                .join(EnrichmentRecord, EnrichmentRecord.key == FileRecord.content_hash)
                .where(EnrichmentRecord.task == task)
            ).all()
            enrichments.forget(self._connection, task)
            self._refresh_spoken(heard)
        return self._delete_found(enrichments.passages_of(task, sa.literal("%")))

    def _refresh_spoken(self, file_ids: Sequence[int]) -> None:
        """Replace the words of some files, and of the shots and sounds in which they are said."""
        text_index.refresh_files(self._connection, file_ids)
        lasting = enrichments.lasting_items(self._connection, file_ids)
        text_index.refresh_known_items(self._connection, lasting)

    def _delete_passages(self, task: Task, origins: Sequence[int]) -> None:
        """Delete the found texts of some pictures, given by their ids."""
        origin = aliased(ItemRecord)
        for chunk in chunks(origins):
            of_origins = (
                sa.select(ItemRecord.id)
                .join(origin, origin.file_id == ItemRecord.file_id)
                .where(
                    origin.id.in_(chunk),
                    ItemRecord.modality == Modality.TEXT,
                    enrichments.passages_of(task, origin.part),
                )
            )
            self._delete_found(ItemRecord.id.in_(list(self._connection.scalars(of_origins))))

    def _delete_found(self, condition: sa.ColumnElement[bool]) -> int:
        """Delete found texts, with their rows in every space; returns their number."""
        passages = sa.and_(ItemRecord.modality == Modality.TEXT, condition)
        ids = self._connection.scalars(sa.select(ItemRecord.id).where(passages)).all()
        self.delete_items(ids)
        return len(ids)

    def delete_items(self, item_ids: Iterable[int]) -> None:
        """Delete items, by their ids, with their rows in every space; their files stay."""
        for chunk in chunks(sorted(item_ids)):
            self._delete(RowRecord.item_id, chunk)
            self._delete_items(ItemRecord.id.in_(chunk))

    def forget_words(self, paths: Iterable[str]) -> None:
        """Delete the words of files, which count in the scores of others until then.

        Recording a file again brings them back.
        """
        text_index.forget_files(self._connection, self._ids_of_files(paths).values())

    def set_metadata_versions(self, versions: Mapping[str, int]) -> None:
        """Say with which `METADATA_VERSION` known files were read, by path."""
        self._save_files({path: {"metadata_version": one} for path, one in versions.items()})

    def set_rows(self, space_id: str, modality: Modality, rows: Mapping[int, int]) -> None:
        """Give known items, by their ids, other vectors in a space, which must be committed.

        Of the present contents of their files; what is known of the items stays.
        """
        for chunk in chunks(sorted(rows)):
            of_items = sa.select(ItemRecord.id, ItemRecord.file_id, FileRecord.content_hash).join(
                FileRecord, FileRecord.id == ItemRecord.file_id
            )
            found = self._connection.execute(of_items.where(ItemRecord.id.in_(chunk))).all()
            self._delete(RowRecord.item_id, chunk, RowRecord.space_id == space_id)
            self._dialect.insert_rows(
                self._connection,
                RowRecord,
                ("space_id", "item_id", "modality", "row", "content_hash", "file_id"),
                [
                    (space_id, item_id, modality, rows[item_id], content_hash, file_id)
                    for item_id, file_id, content_hash in found
                ],
            )

    def annotate(self, table: str, columns_by_path: Mapping[str, dict[str, Any]]) -> None:
        """Let a known table say something of files, in place of what it said of these before."""
        table_id = self._ids_of_files([table])[table]
        paths = list(columns_by_path)
        self._delete(AnnotationRecord.image_path, paths, AnnotationRecord.file_id == table_id)
        said = [(table_id, path, columns) for path, columns in columns_by_path.items() if columns]
        names = ("file_id", "image_path", "columns")
        self._dialect.insert_rows(self._connection, AnnotationRecord, names, said)
        self._refresh_said(self._ids_of_files(paths).values())

    def remove_space(self, space_id: str) -> None:
        """Delete the rows of a space, and the items that no other space has a row of."""
        for record in (RowRecord, EmbeddedFileRecord, ExtentRecord):
            self._connection.execute(sa.delete(record).where(record.space_id == space_id))
        gone = ~sa.exists().where(RowRecord.item_id == ItemRecord.id)
        self._delete_items(gone)

    def move_file(self, old_path: str, new_path: str) -> bool:
        """Change the path of a file, which keeps its items; False if the new path is taken."""
        if self._ids_of_files([new_path]):
            return False
        moved = self._connection.execute(
            sa.update(FileRecord)
            .where(FileRecord.path == old_path)
            .values(path=new_path, state=FileState.INDEXED)
        ).rowcount
        file_ids = self._ids_of_files([new_path]).values()
        # What a file says of itself moves with it.
        self._connection.execute(
            sa.update(AnnotationRecord)
            .where(
                AnnotationRecord.file_id.in_(list(file_ids)),
                AnnotationRecord.image_path == old_path,
            )
            .values(image_path=new_path)
        )
        self._refresh_derived(file_ids)
        self._refresh_said(file_ids)
        self._refresh_annotated([new_path])
        return bool(moved)

    def record_failures(self, failures: Sequence[FailedFile]) -> None:
        """Record files that could not be read; their earlier content is no longer found."""
        self._save_files(
            {
                failed.path: {
                    "state": FileState.FAILED,
                    "failure": failed.failure,
                    "size": failed.size,
                    "mtime_ns": failed.mtime_ns,
                    "etag": failed.etag,
                    "content_hash": None,
                }
                for failed in failures
            }
        )
        self._refresh_annotated([failed.path for failed in failures])

    def record_touched(self, files: Sequence[FileEntry]) -> None:
        """Record new times of files with the same content, which can be found (again)."""
        file_ids = self._save_files({file.path: _values_of_content(file) for file in files})
        if files:
            self._connection.execute(
                sa.update(FileRecord)
                .where(FileRecord.path == sa.bindparam("of"), FileRecord.taken_at.is_(None))
                .values(taken_local=sa.bindparam("local")),
                [{"of": file.path, "local": _local_mtime(file.mtime_ns)} for file in files],
            )
            facets.refresh_codes(self._connection, file_ids.values())
        self._refresh_annotated([file.path for file in files])

    def record_metadata(
        self,
        read: Mapping[str, tuple[Metadata, int | None] | None],
        notes: Mapping[str, Sequence[str]],
    ) -> None:
        """Replace the metadata of known files, read again, and the notes about it.

        Args:
            read: By path, with the state of sidecars. None: it could not be read; what is known of
                the file stays.
            notes: Of what could not be read of metadata, by path.
        """
        noted = self._ids_of_files(read)
        is_of_metadata = NoteRecord.note.startswith(METADATA_NOTE, autoescape=True)
        self._delete(NoteRecord.file_id, list(noted.values()), is_of_metadata)
        found = [(file_id, note) for path, file_id in noted.items() for note in notes.get(path, ())]
        self._dialect.insert_rows(self._connection, NoteRecord, ("file_id", "note"), found)
        unread = {path for path, metadata in read.items() if metadata is None}
        self._save_files({path: {"metadata_version": METADATA_VERSION} for path in unread})
        files = {path: metadata for path, metadata in read.items() if metadata is not None}
        known = self._connection.execute(
            sa.select(FileRecord.path, FileRecord.id, FileRecord.mtime_ns).where(
                FileRecord.path.in_(list(files))
            )
        ).all()
        self._save_files({path: _described(*files[path], mtime_ns) for path, _, mtime_ns in known})
        ids = [file_id for _, file_id, _ in known]
        own = AnnotationRecord.image_path.in_(list(files))
        self._delete(AnnotationRecord.file_id, ids, own)
        annotations = [
            (file_id, path, columns)
            for path, file_id, _ in known
            if (columns := files[path][0].columns)
        ]
        names = ("file_id", "image_path", "columns")
        self._dialect.insert_rows(self._connection, AnnotationRecord, names, annotations)
        self._refresh_said(ids)

    def mark_old_metadata(self, paths: Sequence[str] | None = None) -> None:
        """Mark files whose metadata is to be read again, or (None) those of older versions."""
        marked = sa.update(FileRecord).values(metadata_version=-METADATA_VERSION)
        if paths is None:
            self._connection.execute(marked.where(IS_OLD_METADATA))
        for chunk in chunks(paths or ()):
            self._connection.execute(marked.where(FileRecord.path.in_(chunk)))

    def mark_removed(self, paths: Iterable[str]) -> int:
        """Hide files from every search at once; returns how many were not hidden before."""
        removed = list(paths)
        count = sum(
            self._connection.execute(
                sa.update(FileRecord)
                .where(FileRecord.path.in_(chunk), FileRecord.state != FileState.REMOVED)
                .values(state=FileState.REMOVED, failure=None)
            ).rowcount
            for chunk in chunks(removed)
        )
        self._refresh_annotated(removed)
        return count

    def create_collection(self, name: str) -> int:
        """Create a collection; returns its id. Raises UsageError for a name that is taken."""
        return collections.create(self._connection, name)

    def rename_collection(self, collection_id: int, name: str) -> None:
        """Give a collection another name; raises UsageError for one that is taken."""
        collections.rename(self._connection, collection_id, name)

    def delete_collection(self, collection_id: int) -> None:
        """Delete a collection; its items stay in the library."""
        collections.delete(self._connection, collection_id)

    def collect(self, collection_id: int, item_ids: Sequence[int]) -> int:
        """Add items at the end of a collection; returns how many were not in it.

        Raises NotFoundError for an unknown item.
        """
        return collections.collect(self._connection, collection_id, item_ids)

    def uncollect(self, collection_id: int, item_ids: Sequence[int]) -> int:
        """Take items out of a collection; returns how many were in it."""
        return collections.uncollect(self._connection, collection_id, item_ids)

    def hide_items(self, item_ids: Sequence[int]) -> int:
        """Hide items, with those of the same pages; returns how many were not hidden.

        Raises NotFoundError for an unknown item.
        """
        return collections.hide(self._connection, item_ids)

    def unhide_items(self, item_ids: Sequence[int]) -> int:
        """Show hidden items, with those of the same pages; returns how many were hidden."""
        return collections.unhide(self._connection, item_ids)

    def save_search(self, name: str, query: dict[str, Any]) -> SavedSearch:
        """Save a search under a name, in place of one that has it."""
        return collections.save(self._connection, name, query)

    def delete_saved_search(self, saved_id: int) -> bool:
        """Delete a saved search; returns whether there was one."""
        return collections.delete_saved(self._connection, saved_id)

    def hand_over_to_copies(self) -> None:
        """Let copies take the places of removed files in collections and among hidden items."""
        collections.hand_over_to_copies(self._connection)

    def _refresh_annotated(self, paths: Sequence[str]) -> None:
        """Update the text index for the files that some tables annotate."""
        self._refresh_said(text_index.annotated_files(self._connection, paths))

    def _refresh_said(self, file_ids: Iterable[int]) -> None:
        """Update words and cells of files, after a change of path, metadata or annotations."""
        text_index.refresh_files(self._connection, file_ids)
        cells.refresh_files(self._connection, file_ids)

    def _refresh_derived(self, file_ids: Iterable[int]) -> None:
        """Update what follows from path, times and metadata of files."""
        derived.refresh(self._connection, file_ids)
        facets.refresh_codes(self._connection, file_ids)

    def _delete_items(self, condition: sa.ColumnElement[bool]) -> None:
        item_ids = sa.select(ItemRecord.id).where(condition)
        text_index.forget_items(self._connection, item_ids)
        cells.forget_items(self._connection, item_ids)
        collections.forget_items(self._connection, item_ids)
        self._connection.execute(sa.delete(ItemRecord).where(condition))

    def _save_files(self, values_by_path: Mapping[str, dict[str, Any]]) -> dict[str, int]:
        """Insert or update files by path; returns their ids."""
        known = self._ids_of_files(values_by_path)
        in_folders = derived.folder_ids(self._connection, values_by_path.keys() - known.keys())

        def columns_of(path: str, values: dict[str, Any]) -> dict[str, Any]:
            date = derived.date_of(values.get("taken_at"), values["mtime_ns"])
            return {"path": path, "folder_id": in_folders[path], "date": date}

        file_ids = self._save(FileRecord, values_by_path, known, columns_of)
        derived.refresh(self._connection, known.values())
        facets.refresh_codes(self._connection, file_ids.values())
        return file_ids

    def _save_items(
        self,
        items: Mapping[tuple[int, Modality, str], ItemEntry],
        known: Mapping[tuple[int, Modality, str], int],
        new_ids: Mapping[tuple[int, Modality, str], int] | None,
    ) -> dict[tuple[int, Modality, str], int]:
        """Insert or update items by file, modality and part; returns their ids."""
        names = ("file_id", "modality", "part")
        values = {key: _values_of_item(item) for key, item in items.items()}
        return self._save(
            ItemRecord, values, known, lambda key, _: dict(zip(names, key, strict=True)), new_ids
        )

    def _save(
        self,
        record: type[FileRecord | ItemRecord],
        values: Mapping[_Key, dict[str, Any]],
        known: Mapping[_Key, int],
        columns_of: Callable[[_Key, dict[str, Any]], dict[str, Any]],
        new_ids: Mapping[_Key, int] | None = None,
    ) -> dict[_Key, int]:
        """Update the known records and insert the others, whose values are all of the same.

        new_ids: of those that are inserted; None: the next ones.
        """
        if updates := [
            {"known_id": known[key], **new} for key, new in values.items() if key in known
        ]:
            self._connection.execute(
                sa.update(record).where(record.id == sa.bindparam("known_id")), updates
            )
        new = [key for key in values if key not in known]
        ids: Iterable[int] = range(first := next_id(self._connection, record), first + len(new))
        if new_ids is not None:
            ids = [new_ids[key] for key in new]
        inserts = [
            {"id": new_id} | columns_of(key, values[key]) | values[key]
            for new_id, key in zip(ids, new, strict=True)
        ]
        if inserts:
            rows = (tuple(values.values()) for values in inserts)
            self._dialect.insert_rows(self._connection, record, list(inserts[0]), rows)
        return {**known, **dict(zip(new, ids, strict=True))}

    def _delete(
        self, column: Any, values: Iterable[Any], *conditions: sa.ColumnElement[bool]
    ) -> None:
        """Delete the records that have one of some values in a column, and pass the conditions."""
        for chunk in chunks(list(values)):
            self._connection.execute(sa.delete(column.class_).where(column.in_(chunk), *conditions))

    def _ids_of_files(self, paths: Iterable[str]) -> dict[str, int]:
        return {
            path: file_id
            for chunk in chunks(list(paths))
            for path, file_id in self._connection.execute(
                sa.select(FileRecord.path, FileRecord.id).where(FileRecord.path.in_(chunk))
            )
        }

    def _drop_stale_rows(self, file_ids: Iterable[int]) -> None:
        """Delete the rows of earlier contents of some files."""
        current = (
            sa.select(FileRecord.content_hash)
            .join(ItemRecord, ItemRecord.file_id == FileRecord.id)
            .where(ItemRecord.id == RowRecord.item_id)
            .scalar_subquery()
        )
        for chunk in chunks(list(file_ids)):
            items = sa.select(ItemRecord.id).where(ItemRecord.file_id.in_(chunk))
            self._connection.execute(
                sa.delete(RowRecord).where(
                    RowRecord.item_id.in_(items), RowRecord.content_hash != current
                )
            )

    def _drop_annotations(self, tables: Sequence[int]) -> set[int]:
        """Delete the annotations of some tables; returns the ids of the annotated files."""
        annotated: set[int] = set()
        for chunk in chunks(tables):
            annotated |= set(
                self._connection.scalars(
                    sa.select(FileRecord.id)
                    .join(AnnotationRecord, AnnotationRecord.image_path == FileRecord.path)
                    .where(AnnotationRecord.file_id.in_(chunk))
                )
            )
        self._delete(AnnotationRecord.file_id, tables)
        return annotated

    def _record_embedded(
        self, space_id: str, content_by_file: Mapping[int, str], known_files: set[int]
    ) -> None:
        """Record files as embedded completely; deletes items that only an earlier content had."""
        for chunk in chunks(sorted(content_by_file.keys() & known_files)):
            of_space = EmbeddedFileRecord.space_id == space_id
            self._delete(EmbeddedFileRecord.file_id, chunk, of_space)
            gone = sa.and_(
                ItemRecord.file_id.in_(chunk),
                ~sa.exists().where(RowRecord.item_id == ItemRecord.id),
            )
            self._delete_items(gone)
        self._dialect.insert_rows(
            self._connection,
            EmbeddedFileRecord,
            ("space_id", "file_id", "content_hash"),
            [(space_id, *of_file) for of_file in sorted(content_by_file.items())],
        )

    def _ids_of_items(
        self, keys: Iterable[tuple[int, Modality, str]]
    ) -> dict[tuple[int, Modality, str], int]:
        """Return the ids of those of some items that exist."""
        columns = sa.tuple_(ItemRecord.file_id, ItemRecord.modality, ItemRecord.part)
        return {
            (file_id, Modality(modality), part): item_id
            for chunk in chunks(list(keys), PARAMETERS_PER_STATEMENT // 3)
            for file_id, modality, part, item_id in self._connection.execute(
                sa.select(
                    ItemRecord.file_id, ItemRecord.modality, ItemRecord.part, ItemRecord.id
                ).where(columns.in_(chunk))
            )
        }

    def _set_row_count(self, space_id: str, modality: str, count: int) -> None:
        key = {"space_id": space_id, "modality": modality}
        updated = self._connection.execute(
            sa.update(ExtentRecord).filter_by(**key).values(row_count=count)
        )
        if not updated.rowcount:
            self._connection.execute(sa.insert(ExtentRecord).values(row_count=count, **key))


def _plan_moves(
    paths: Iterable[str], old: str, new: str, known: set[str]
) -> tuple[list[str], list[str]]:
    """Order paths so that each finds its new path free; the second list has those that do not.

    known: paths that there are, which may include those to be moved.
    """
    # Into a folder of its own: what lies deepest makes room first; out of one, what lies highest.
    order = sorted(paths, key=lambda path: (len(path), path), reverse=is_at_or_below(new, old))
    taken = known - set(order)
    moved, stuck = [], []
    for path in order:
        target = reroot(path, old, new)
        if target in taken:
            stuck.append(path)
            taken.add(path)
        else:
            moved.append(path)
            taken.add(target)
    return moved, stuck


def _values_of(file: FileEntry) -> dict[str, Any]:
    described = _described(file.metadata, file.sidecars, file.mtime_ns)
    return _values_of_content(file) | {"kind": file.kind} | described


def _described(metadata: Metadata, sidecars: int | None, mtime_ns: int) -> dict[str, Any]:
    return {name: getattr(metadata, name) for name in METADATA} | {
        "taken_local": _taken_local(metadata, mtime_ns),
        "metadata_version": METADATA_VERSION,
        "sidecars": sidecars,
    }


def _own_annotation(update: FileUpdate) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a file says of itself that is for filters and facets, as a table would."""
    if update.is_first and update.file.metadata.columns:
        yield update.file.path, update.file.metadata.columns


def _taken_local(metadata: Metadata, mtime_ns: int) -> int | None:
    """Return the local time of a file's metadata, else of this machine, by its instant or mtime."""
    if metadata.taken_local is not None:
        return metadata.taken_local
    if metadata.taken_at is not None:
        return local_clock_seconds(metadata.taken_at)
    return _local_mtime(mtime_ns)


def _local_mtime(mtime_ns: int) -> int | None:
    """Return a modification time by this machine's clock; None for one that is not trusted."""
    return None if mtime_ns == UNTRUSTED_MTIME else local_clock_seconds(mtime_ns // 1_000_000_000)


def _values_of_content(file: FileEntry) -> dict[str, Any]:
    return {
        "state": FileState.INDEXED,
        "failure": None,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "content_hash": file.content_hash,
        "etag": file.etag,
    }


def _values_of_item(item: ItemEntry) -> dict[str, Any]:
    return {column.key: getattr(item, column.key) for column in ITEM_COLUMNS[1:]}
