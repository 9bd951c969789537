"""Where an answer ended, in a string that its next page begins from: nothing is kept between pages.

A cursor freezes what a ranking depends on: how many rows there were, how the mode was decided and
how many candidates a reranker took up in its time. And it names the hits that were given. What
follows is the ranking without them, so that nothing is given twice, and nothing that still exists
is passed over, even where rows vanish or scores shift between two pages.
"""

import base64
import json
import zlib
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import xxhash

from retrieval.errors import UsageError
from retrieval.search.query import MAX_K, AudioPart, ImagePart, Mode, Query, VectorPart

_DIGEST_BYTES = 8
_MODES = (Mode.VECTOR, Mode.TEXT, Mode.HYBRID)
_MOST_BYTES = _DIGEST_BYTES + 8 * (5 + MAX_K)
_FORMAT = 2
MAX_CURSOR_LENGTH = 200_000
"""Characters; ids of MAX_K items that lie far apart take less."""


@dataclass(frozen=True)
class Cursor:
    """The end of a page.

    digest: of the query, its reranking and its space. row_limit: rows that count. mode: as decided
    at the first page. reranked_count: candidates that the reranker took up then. seen_ids: of the
    items on the pages so far. least: the relevance below which hits are left out, and expected: how
    many right ones there are, both as found for the first page.
    """

    digest: bytes
    row_limit: int
    mode: Mode
    reranked_count: int
    seen_ids: frozenset[int]
    least: float = 0.0
    expected: float = 0.0

    def encode(self) -> str:
        """As text that is safe in an address."""
        ids = sorted(self.seen_ids)
        steps = np.diff(np.array([0, *ids], np.uint64))
        floats = np.array([self.least, self.expected], np.float64).view(np.uint64)
        numbers = np.array(
            [_MODES.index(self.mode), self.row_limit, self.reranked_count, *floats], np.uint64
        )
        # First the lowest bytes of all numbers, then the next: most of these are 0.
        octets = np.concatenate([numbers, steps]).view(np.uint8).reshape(-1, 8).T
        content = zlib.compress(self.digest + octets.tobytes())
        return (
            base64.urlsafe_b64encode(xxhash.xxh3_64_digest(content) + content).decode().rstrip("=")
        )

    @classmethod
    def decode(cls, text: str, digest: bytes) -> "Cursor":
        """Read a cursor of the query with a digest.

        Raises UsageError for one that is damaged, made up or of another query.
        """
        cursor = cls.read(text)
        if cursor.digest != digest:
            raise UsageError(
                "The cursor belongs to another query. Repeat the query that it came from, with the "
                "same options but k, or leave the cursor out."
            )
        return cursor

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Read a cursor of any query. Raises UsageError for one that is damaged or made up."""
        try:
            text = text[:MAX_CURSOR_LENGTH]
            packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            checksum, compressed = packed[:_DIGEST_BYTES], packed[_DIGEST_BYTES:]
            if xxhash.xxh3_64_digest(compressed) != checksum:
                raise ValueError(text)  # noqa: TRY301
            content = zlib.decompressobj().decompress(compressed, _MOST_BYTES)
            octets = np.frombuffer(content, np.uint8, offset=_DIGEST_BYTES).reshape(8, -1)
            numbers = np.ascontiguousarray(octets.T).view(np.uint64)[:, 0].tolist()
            mode, row_limit, reranked_count, least, expected, *steps = numbers
            least, expected = np.array([least, expected], np.uint64).view(np.float64).tolist()
            return cls(
                content[:_DIGEST_BYTES],
                row_limit,
                _MODES[mode],
                reranked_count,
                frozenset(accumulate(steps)),
                least,
                expected,
            )
        except (ValueError, IndexError, zlib.error):
            raise UsageError(
                "Invalid cursor. Pass `next_cursor` of an earlier answer unchanged, or omit it to "
                "start from the first page."
            ) from None


def digest_of(query: Query, *context: object) -> bytes:
    """Say in a few bytes what a ranking depends on: all of a query but k and the cursor.

    context: what else it depends on, of types that JSON knows.
    """
    # With the name of its type, so that parts of two types never collide.
    parts = [
        (
            type(part).__name__,
            part.digest if isinstance(part, ImagePart | AudioPart | VectorPart) else vars(part),
            part.weight,
        )
        for part in query.parts
    ]
    where = query.where.model_dump_json() if query.where else None
    chosen = vars(query) | {"parts": parts, "where": where, "k": None, "cursor": None}
    return xxhash.xxh3_64_digest(json.dumps([_FORMAT, chosen, context]).encode())
