"""Which index the vectors of a table get, why, and how hard it is searched: kept with the table."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from retrieval.errors import DamagedLibraryError, UsageError
from retrieval.indices.base import Effort
from retrieval.indices.tuning import OVERFETCH
from retrieval.lance.table import LanceTable
from retrieval.media import Modality

INDEX = "mmsearch.index"
"""Key of the schema's metadata."""
HAS_VECTOR = "modality IS NOT NULL"
"""Predicate of the rows that are searched."""

IVF_PQ, IVF_RQ = "IVF_PQ", "IVF_RQ"
KINDS = (IVF_PQ, IVF_RQ)

EXACT_UP_TO_ROWS = 20_000
"""Comparing all of them reads 20 MB at 512 dimensions."""
_PQ_UP_TO_ROWS = 1_000_000
_MOST = 2**31 - 1
_DIMENSIONS_A_PART = 8
_LEAST_ROWS = 256
"""Rows that Lance wants for each list that it trains."""


@dataclass(frozen=True)
class TableIndexChoice:
    """An index and the reasons for it, in sentences.

    kind: as Lance names it; None: exact search. partitions: number of inverted lists. parts: of a
    product quantiser, one byte each. candidates: proposed for each wanted hit, before tuning.
    """

    kind: str | None
    reasons: tuple[str, ...]
    partitions: int = 0
    parts: int = 0


@dataclass(frozen=True)
class TableIndexSettings:
    """What is known of the index of a table.

    efforts: how hard it is searched, by the modality of queries. rows: it was built over. seconds:
    that the build took, without tuning. workers: that built it.
    """

    kind: str
    partitions: int
    parts: int
    rows: int
    target_recall: float
    reasons: tuple[str, ...] = ()
    efforts: Mapping[Modality, Effort] = field(default_factory=dict)
    seconds: float = 0.0
    workers: int = 1

    def effort(self, modality: Modality) -> Effort:
        """Return the effort of queries of a modality; of one that was not tuned, the greatest."""
        if modality in self.efforts:
            return self.efforts[modality]
        known = self.efforts.values()
        return Effort(
            max((one.breadth for one in known), default=math.ceil(self.partitions / 8)),
            max((one.overfetch for one in known), default=20),
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return asdict(self) | {
            "efforts": {
                str(modality): {
                    "nprobes": effort.breadth,
                    "refine_factor": effort.overfetch,
                    "recall": effort.recall,
                }
                for modality, effort in self.efforts.items()
            }
        }


def choose_index(
    rows: int, dimension: int, kind: str | None = None, partitions: int | None = None
) -> TableIndexChoice:
    """Choose the index for a number of vectors of a dimension.

    Args:
        rows: number of vectors.
        dimension: of each.
        kind: `IVF_PQ` or `IVF_RQ`; None: by size.
        partitions: number of inverted lists; None: by size.

    Raises:
        UsageError: the kind is unknown, or cannot be built over these vectors.
    """
    if kind is None and rows <= EXACT_UP_TO_ROWS:
        megabytes = 2 * dimension * rows / 1e6
        return TableIndexChoice(
            None,
            (
                f"Up to {EXACT_UP_TO_ROWS:,} vectors are compared one by one: a query reads "
                f"{megabytes:,.1f} MB.",
            ),
        )
    if kind is not None and kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}; there are: {', '.join(KINDS)}.")
    if rows < _LEAST_ROWS:
        raise UsageError(
            f"An index needs at least {_LEAST_ROWS} vectors to be trained on; the table has {rows}."
        )
    most = rows // _LEAST_ROWS
    if partitions and partitions > most:
        raise UsageError(
            f"{rows:,} vectors can train {most:,} lists at most, {_LEAST_ROWS} each, and not "
            f"{partitions:,}."
        )
    lists = partitions or max(1, min(most, round(math.sqrt(rows))))
    reasons = [
        f"{lists:,} inverted lists of about {rows // lists:,} vectors: the square root of their "
        f"number, so that to find the lists costs about what it costs to read one."
    ]
    if partitions:
        reasons = [f"{lists:,} inverted lists, as asked."]
    elif lists == most:
        reasons = [
            f"{lists:,} inverted lists: as many as {rows:,} vectors can train, {_LEAST_ROWS} each."
        ]
    divides = dimension % _DIMENSIONS_A_PART == 0
    if kind == IVF_RQ and not divides:
        raise UsageError(
            f"{IVF_RQ} needs a number of dimensions that 8 divides, and the vectors have "
            f"{dimension}. Use {IVF_PQ}."
        )
    by_size = IVF_RQ if rows > _PQ_UP_TO_ROWS and divides else IVF_PQ
    chosen = kind or by_size
    parts = 0
    if chosen == IVF_PQ:
        parts = next(n for n in range(max(1, dimension // 8), 0, -1) if dimension % n == 0)
        reasons.append(
            f"Product quantisation, {parts} bytes a vector: up to {_PQ_UP_TO_ROWS:,} vectors its "
            "training costs little, and its order is close enough that few candidates are read."
        )
    else:
        reasons.append(
            f"RaBitQ, one bit a dimension, {dimension // 8 + 8} bytes a vector: nothing but the "
            "lists is trained, so that it is built several times as fast."
        )
    if kind:
        reasons[-1] = f"{kind}, as asked. {reasons[-1]}"
    reasons.append(
        f"Each candidate is compared exactly, which reads {2 * dimension:,} bytes of it where they "
        "lie."
    )
    return TableIndexChoice(chosen, tuple(reasons), lists, parts)


def settings_of(table: LanceTable) -> TableIndexSettings | None:
    """Read what is known of the index of a version of a table; None: none was built by mmsearch.

    Raises DamagedLibraryError where it is damaged.
    """
    stored = (table.dataset.schema.metadata or {}).get(INDEX.encode())
    if stored is None:
        return None
    try:
        facts = json.loads(stored)
        efforts = {
            Modality(name): Effort(
                _positive(one["nprobes"]),
                _positive(one["refine_factor"], OVERFETCH[-1]),
                None if one["recall"] is None else float(one["recall"]),
            )
            for name, one in facts["efforts"].items()
        }
        return TableIndexSettings(
            str(facts["kind"]),
            _positive(facts["partitions"]),
            int(facts["parts"]),
            int(facts["rows"]),
            float(facts["target_recall"]),
            tuple(map(str, facts["reasons"])),
            efforts,
            float(facts["seconds"]),
            int(facts["workers"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedLibraryError(
            f"{table.location} says of its index what cannot be. Build it again: `mmsearch "
            "build-index`."
        ) from error


def keep_settings(table: LanceTable, settings: TableIndexSettings) -> None:
    """Keep what is known of the index with the table; makes a version of it."""
    table.dataset.update_schema_metadata({INDEX: json.dumps(settings.to_json())})


def _positive(value: Any, most: int = _MOST) -> int:
    """Return a number that Lance allocates memory by."""
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{value!r:.20} is no effort")
    return value
