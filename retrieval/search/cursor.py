"""Where an answer ended, in a string that its next page begins from: nothing is kept between pages.

A cursor freezes what a ranking depends on: how many rows there were, how the mode was decided and
how many candidates a reranker took up in its time. And it names the hits that were given. What
follows is the ranking without them, so that nothing is given twice, and nothing that still exists
is passed over, even where rows vanish or scores shift between two pages.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from retrieval.errors import UsageError
from retrieval.search.query import MAX_K, ImagePart, ItemPart, Mode, Query, TextPart

_VERSION = 1
_DIGEST_BYTES = 8
_CHECKSUM_BYTES = 4
_MODES = (Mode.VECTOR, Mode.TEXT, Mode.HYBRID)
_LARGEST = 2**63 - 1
MAX_CURSOR_LENGTH = 200_000
"""Characters; ids of MAX_K items that lie far apart take less."""


@dataclass(frozen=True)
class Cursor:
    """The end of a page.

    digest: of the query, its reranking and its space. row_limit: rows that count. mode: as decided
    at the first page. reranked_count: candidates that the reranker took up then. seen_ids: of the
    items on the pages so far.
    """

    digest: bytes
    row_limit: int
    mode: Mode
    reranked_count: int
    seen_ids: frozenset[int]

    def encode(self) -> str:
        """As text that is safe in an address."""
        ids = sorted(self.seen_ids)
        steps = (after - before for before, after in zip([0, *ids], ids, strict=False))
        numbers = (_MODES.index(self.mode), self.row_limit, self.reranked_count, len(ids), *steps)
        content = bytes([_VERSION]) + self.digest + b"".join(map(_varint, numbers))
        return base64.urlsafe_b64encode(_checksum(content) + content).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, digest: bytes) -> "Cursor":
        """Read a cursor of the query with a digest.

        Raises UsageError for one that is damaged, made up or of another query.
        """
        content = _unpack(text)
        if content[1 : 1 + _DIGEST_BYTES] != digest:
            raise UsageError(
                "The cursor belongs to another query. Repeat the query that it came from, with the "
                "same options but k, or leave the cursor out."
            )
        numbers = _numbers(content[1 + _DIGEST_BYTES :])
        try:
            mode, row_limit, reranked_count, count = (next(numbers) for _ in range(4))
            steps = list(numbers)
            if len(steps) != count or count > MAX_K:
                raise _damaged()
            seen_ids, item_id = set(), 0
            for step in steps:
                item_id += step
                seen_ids.add(item_id)
            return cls(digest, row_limit, _MODES[mode], reranked_count, frozenset(seen_ids))
        except (RuntimeError, IndexError):  # a generator that ends inside another is the former
            raise _damaged() from None


def digest_of(query: Query, *context: object) -> bytes:
    """Say in a few bytes what a ranking depends on: all of a query but k and the cursor.

    context: what else it depends on, of types that JSON knows.
    """
    # With the name of its type, so that parts of two types never collide.
    parts = [(type(part).__name__, _content_of(part), part.weight) for part in query.parts]
    chosen = (
        query.modality,
        query.where.model_dump_json() if query.where else None,
        query.mode,
        query.min_relevance,
        query.group_by_file,
        query.diversity,
    )
    return xxhash.xxh3_64_digest(json.dumps([parts, chosen, context]).encode())


def _content_of(part: TextPart | ImagePart | ItemPart) -> str | int:
    if isinstance(part, TextPart):
        return part.text
    return part.item_id if isinstance(part, ItemPart) else part.digest


def _checksum(content: bytes) -> bytes:
    return xxhash.xxh3_64_digest(content)[:_CHECKSUM_BYTES]


def _unpack(text: str) -> bytes:
    if len(text) > MAX_CURSOR_LENGTH or not text.isascii():
        raise _damaged()
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _damaged() from None
    checksum, content = packed[:_CHECKSUM_BYTES], packed[_CHECKSUM_BYTES:]
    if checksum != _checksum(content) or content[:1] != bytes([_VERSION]):
        raise _damaged()
    return content


def _damaged() -> UsageError:
    return UsageError(
        "Invalid cursor. Pass `next_cursor` of an earlier answer unchanged, or omit it to start "
        "from the first page."
    )


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, the highest bit where more follow (LEB128)."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _numbers(content: bytes) -> Iterator[int]:
    number, shift = 0, 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if number > _LARGEST:
            raise _damaged()
        if byte <= 0x7F:
            yield number
            number, shift = 0, 0
    if shift:
        raise _damaged()
