"""Found texts as items: chunks that the text tower of an encoder reads whole."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from indexer.commit import write_rows
from indexer.media.chunking import split
from retrieval.catalog import Item, ItemEntry, Transaction
from retrieval.catalog.records import found_part
from retrieval.encoders.base import Encoder
from retrieval.library import Library
from retrieval.media import Modality
from retrieval.recognition.base import Segment, Task

_ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class FoundText:
    """What was found in one picture of a file, or heard in one.

    item: the picture; None: the file was heard. content_hash: of the file.
    """

    item: Item | None
    path: str
    content_hash: str
    segments: Sequence[Segment]

    @property
    def origin(self) -> str:
        """The part of the picture; "" of what was heard."""
        return self.item.part if self.item else ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a found text: becomes an item. Its entry has no row yet."""

    of: FoundText
    entry: ItemEntry

    @property
    def key(self) -> tuple[str, Modality, str]:
        """Name its vector, as the catalog does: content, modality, part."""
        return self.of.content_hash, self.entry.modality, self.entry.part


@dataclass(frozen=True)
class Passages:
    """Passages and their vectors, ready to be recorded.

    texts: of which these are all passages. rows: of vectors that the library has.
    """

    texts: Sequence[FoundText]
    found: Sequence[Passage]
    rows: Mapping[tuple[str, Modality, str], int]
    vectors: Mapping[tuple[str, Modality, str], NDArray[np.float16]]


def passages_of(text: FoundText, task: Task, encoder: Encoder) -> Iterator[Passage]:
    """Cut a found text into chunks of whole segments, where these are short enough.

    A chunk of speech lasts from its first to its last segment; one of a picture lies where the
    picture does, and is shown by it.
    """
    lines = [" ".join(segment.text.split()) for segment in text.segments]
    kept = [(line, segment) for line, segment in zip(lines, text.segments, strict=True) if line]
    starts = list(accumulate((len(line) + 1 for line, _ in kept), initial=0))
    joined = "\n".join(line for line, _ in kept)
    taken: set[int] = set()
    for chunk in split(joined, encoder.token_count, encoder.context_length):
        first = bisect_right(starts, chunk.start) - 1
        last = bisect_right(starts, chunk.end - 1) - 1
        segments = [segment for _, segment in kept[first : last + 1]]
        number = chunk.start
        start_s = end_s = None
        if text.item is None:
            start_s, end_s = segments[0].start_s, segments[-1].end_s
            number = round((start_s or 0.0) * 1000)
            while number in taken:  # of one long segment
                number += 1
            taken.add(number)
        item = text.item
        entry = ItemEntry(
            Modality.TEXT,
            -1,
            found_part(text.origin, task, number),
            page=item.page if item else None,
            time_s=item.time_s if item else start_s,
            text=chunk.text,
            start_s=item.start_s if item else start_s,
            end_s=item.end_s if item else end_s,
        )
        yield Passage(text, entry)


def embed_passages(
    library: Library,
    encoder: Encoder,
    task: Task,
    texts: Sequence[FoundText],
    *,
    are_known: bool = False,
) -> Passages | None:
    """Embed found texts; None where the encoder takes no texts.

    Args:
        library: the library, whose vectors may be used.
        encoder: of the space.
        task: who found them.
        texts: of pictures or files.
        are_known: use vectors that the library has of copies, which are of the same texts.
    """
    if not texts or Modality.TEXT not in encoder.modalities:
        return None
    found = [passage for text in texts for passage in passages_of(text, task, encoder)]
    rows: dict[tuple[str, Modality, str], int] = {}
    if are_known:
        with library.catalog.snapshot() as snapshot:
            rows = snapshot.rows_of_contents(
                encoder.space.id, {text.content_hash for text in texts}
            )
    new = {passage.key: passage for passage in found if passage.key not in rows}
    vectors: dict[tuple[str, Modality, str], NDArray[np.float16]] = {}
    keys = list(new)
    for start in range(0, len(keys), _ENCODED_AT_ONCE):
        some = keys[start : start + _ENCODED_AT_ONCE]
        encoded = encoder.encode(Modality.TEXT, [new[key].entry.text for key in some])
        halves = zip(some, np.asarray(encoded, np.float16), strict=True)
        vectors |= {key: vector for key, vector in halves if np.isfinite(vector).all()}
    return Passages(texts, found, rows, vectors)


def write_passages(library: Library, encoder: Encoder, passages: Passages) -> int:
    """Write the vectors of passages to the disk; returns the row of the first.

    What the catalog does not name does not exist: `record_passages` comes next.
    """
    with library.catalog.snapshot() as snapshot:
        first_row = snapshot.row_count(encoder.space.id, Modality.TEXT)
    if passages.vectors:
        vectors = list(passages.vectors.values())
        write_rows(library, encoder.space, Modality.TEXT, vectors, first_row)
    return first_row


def record_passages(
    transaction: Transaction, space_id: str, task: Task, passages: Passages, first_row: int
) -> None:
    """Name passages in the catalog, after `write_passages` has written their vectors."""
    transaction.extend_rows(space_id, Modality.TEXT, first_row, len(passages.vectors))
    rows = {**passages.rows, **{key: first_row + n for n, key in enumerate(passages.vectors)}}
    entries: dict[tuple[str, str], list[ItemEntry]] = {
        (text.path, text.origin): [] for text in passages.texts
    }
    for passage in passages.found:
        if (row := rows.get(passage.key)) is not None:
            entry = replace(passage.entry, row=row)
            entries[passage.of.path, passage.of.origin].append(entry)
    transaction.record_passages(
        space_id,
        task,
        {
            (text.path, text.origin): (text.content_hash, entries[text.path, text.origin])
            for text in passages.texts
        },
    )
