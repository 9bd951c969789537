"""Which index a library of some size gets, and why.

Measured with synthetic vectors of 512 dimensions at 200,000 and 1,000,000 rows, single queries,
one thread, recall@10 of 0.95 after refine: fast-scan codes of 4 bits were about twice as fast as
PQ64 of 8 bits, and as fast as RaBitQ, which needs fewer candidates but 82 bytes a row. At
200,000 rows 1,024 lists were no faster than 512.
"""

import math
from dataclasses import dataclass

from retrieval.indices.faiss.gpu import CODE_PARTS

EXACT_UP_TO_ROWS = 50_000
"""Comparing all of them takes about 4 ms at 512 dimensions: an index would save nothing."""

BYTES_PER_ROW = 80
"""Memory of a row in an index, everything counted, in bytes."""

_SPARE_BYTES = 2
"""Spare part of these: lists are not equally long, and codebooks take some memory too."""

_ROW_BYTES = 2
"""Of a dimension in the embeddings file."""

_FACTOR_BYTES = 8
"""Two factors of a row's code of signs."""

_LEAST_SIGNS = 128
"""Dimensions from which codes of signs are chosen: their error falls with the dimension."""

_ID_BYTES = 8
_BLOCK_ROWS = 32
"""Rows of a block of fast-scan codes; the last block of a list is half empty on average."""


@dataclass(frozen=True)
class Choice:
    """An index and the reasons for it, in sentences.

    factory: a FAISS factory string; None: exact search. lists: number of inverted lists.
    code_bytes: size of a row's code. training_rows: rows that the training looks at. memory_bytes:
    memory of all rows together.
    """

    factory: str | None
    reasons: tuple[str, ...]
    lists: int = 0
    code_bytes: int = 0
    training_rows: int = 0
    memory_bytes: int = 0


def choose(
    rows: int,
    dimension: int,
    memory_bytes: int,
    device: str = "cpu",
    cache_bytes: int | None = None,
) -> Choice:
    """Choose an index for a number of rows of a dimension.

    Args:
        rows: number of rows.
        dimension: of each row.
        memory_bytes: limit for the index; codes are shortened to keep to it.
        device: `cpu` or `cuda`.
        cache_bytes: memory for the pages of the embeddings file; None: enough.
    """
    if rows <= EXACT_UP_TO_ROWS:
        return Choice(
            factory=None,
            reasons=(
                f"Up to {EXACT_UP_TO_ROWS:,} rows are searched exactly, straight from the "
                "file: that takes milliseconds, no memory and no training.",
            ),
        )
    from retrieval.indices.faiss.ivf import training_rows

    on_gpu = device.startswith("cuda")
    if not on_gpu and exceeds_cache(rows, dimension, cache_bytes):
        signs = _choose_signs(rows, dimension, memory_bytes, cache_bytes or 0)
        if signs.memory_bytes <= memory_bytes and dimension >= _LEAST_SIGNS:
            return signs
    halvings = 0
    while True:
        code = _Code.of(dimension, halvings, on_gpu)
        lists = _lists(rows, dimension, code)
        needed = _memory(rows, dimension, lists, code)
        if needed <= memory_bytes or code.parts <= 8:
            break
        halvings += 1
    return Choice(
        factory=code.factory(lists),
        lists=lists,
        code_bytes=code.bytes,
        training_rows=training_rows(rows, lists),
        memory_bytes=needed,
        reasons=_reasons(rows, dimension, lists, code, needed, memory_bytes),
    )


def exceeds_cache(rows: int, dimension: int, cache_bytes: int | None) -> bool:
    """Tell whether the rows of an embeddings file are more than the memory for its pages."""
    return cache_bytes is not None and _ROW_BYTES * dimension * rows > cache_bytes


def _choose_signs(rows: int, dimension: int, memory_bytes: int, cache_bytes: int) -> Choice:
    """Choose codes of signs (RaBitQ; Gao and Long, 2024)."""
    from retrieval.indices.faiss.ivf import training_rows

    code_bytes = math.ceil(dimension / 8) + _FACTOR_BYTES
    lists = max(1, int(4 * math.sqrt(rows)))
    needed = rows * (code_bytes + _ID_BYTES) + 4 * dimension * (lists + dimension)
    return Choice(
        factory=f"RR{dimension},IVF{lists},RaBitQ",
        lists=lists,
        code_bytes=code_bytes,
        training_rows=training_rows(rows, lists),
        memory_bytes=needed,
        reasons=(
            f"{_ROW_BYTES * dimension * rows / 1e6:,.0f} MB of vectors are more than the "
            f"{cache_bytes / 1e6:,.0f} MB of memory that the system may keep them in: each "
            "candidate that is compared exactly may be a read from the disk. Codes of signs "
            "(RaBitQ) need fewer candidates than those of a product quantiser.",
            f"{lists:,} inverted lists: four times the square root of {rows:,}.",
            f"Codes of {code_bytes} bytes: a sign of each dimension after a random rotation, and "
            f"{_FACTOR_BYTES} bytes that correct the estimate.",
            f"{needed / 1e6:,.0f} MB of memory, {needed / rows:.0f} bytes a row.",
        ),
    )


@dataclass(frozen=True)
class _Code:
    """A product quantiser: into how many parts a vector is cut, and the bits of each part's code.

    reduced: dimensions that the parts have together, fewer than the vector's where these cannot be
    shared out evenly.
    """

    parts: int
    bits: int
    dimension: int
    reduced: int

    @classmethod
    def of(cls, dimension: int, halvings: int, on_gpu: bool) -> "_Code":
        most = 64 if on_gpu else 128
        width = 8 if on_gpu else 4
        wanted = max(1, min(most, dimension // width) >> halvings)
        known = [parts for parts in range(wanted, 0, -1) if not on_gpu or parts in CODE_PARTS]
        even = [parts for parts in known if parts > wanted * 3 // 4 and dimension % parts == 0]
        parts = even[0] if even else known[0]
        return cls(parts, 8 if on_gpu else 4, dimension, parts * (dimension // parts))

    @property
    def bytes(self) -> int:
        return math.ceil(self.parts * self.bits / 8)

    def factory(self, lists: int) -> str:
        rotation = "" if self.reduced == self.dimension else f"OPQ{self.parts}_{self.reduced},"
        return f"{rotation}IVF{lists},PQ{self.parts}{'x4fs' if self.bits == 4 else ''}"

    @property
    def slack_rows(self) -> int:
        """Rows' codes that a list has room for and does not hold, on average."""
        return _BLOCK_ROWS // 2 if self.bits == 4 else 0


def _lists(rows: int, dimension: int, code: _Code) -> int:
    by_size = 4 * math.sqrt(rows)
    room = rows * max(4, BYTES_PER_ROW - _SPARE_BYTES - code.bytes - _ID_BYTES)
    by_memory = room / (4 * dimension + code.slack_rows * code.bytes)
    return max(1, int(min(by_size, by_memory)))


def _memory(rows: int, dimension: int, lists: int, code: _Code) -> int:
    return rows * (code.bytes + _ID_BYTES) + lists * (4 * dimension + code.slack_rows * code.bytes)


def _reasons(
    rows: int,
    dimension: int,
    lists: int,
    code: _Code,
    needed: int,
    memory_bytes: int,
) -> tuple[str, ...]:
    by_size = int(4 * math.sqrt(rows))
    reasons = [
        f"More than {EXACT_UP_TO_ROWS:,} rows: an index proposes candidates, and the best are "
        "found among them by exact comparison.",
        f"{lists:,} inverted lists of some {rows // lists:,} rows: "
        + (
            f"four times the square root of {rows:,}."
            if lists == by_size
            else f"as many as {BYTES_PER_ROW - _SPARE_BYTES} bytes a row leave room for; four "
            f"times the square root of {rows:,} would be {by_size:,}."
        ),
    ]
    if code.bits == 4:
        reasons.append(
            f"Codes of {code.bytes} bytes in {code.parts} parts of 4 bits, which are compared in "
            "the processor's registers: at equal memory and recall about twice as fast as "
            "parts of 8 bits."
        )
    else:
        reasons.append(
            f"Codes of {code.bytes} bytes in {code.parts} parts of 8 bits, the kind that the GPU "
            "has."
        )
    if code.reduced != dimension:
        reasons.append(
            f"{dimension} dimensions cannot be shared out to {code.parts} parts: the rotation "
            f"leaves {code.reduced} of them."
        )
    full = _Code.of(dimension, 0, code.bits == 8)
    if code.parts < full.parts:
        reasons.append(
            f"Codes were shortened from {full.bytes} bytes for the {memory_bytes / 1e6:,.0f} MB "
            "of memory that it may take; more candidates are compared instead."
        )
    reasons.append(
        f"{needed / 1e6:,.0f} MB of memory, {needed / rows:.0f} bytes a row, beside the mapped "
        "file, which the system keeps in memory as far as there is room."
    )
    return tuple(reasons)
