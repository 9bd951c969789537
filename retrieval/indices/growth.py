"""When an index no longer fits its rows, and what is to be done about it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from retrieval.indices.choice import EXACT_UP_TO_ROWS
from retrieval.indices.generations import Generation

_TAIL_SHARE = 0.1
_GROWTH_FOR_TRAINING = 4
_GROWTH_FOR_TUNING = 1.5
_DRIFT_FOR_TRAINING = 1.2


class Step(StrEnum):
    """What is to be done to an index."""

    KEEP = "keep"
    EXTEND = "extend"
    TRAIN = "train"


@dataclass(frozen=True)
class Plan:
    """A step, the reason for it, and whether settings must be found anew."""

    step: Step
    reason: str
    is_tuned_anew: bool = False


def needs_build(rows: int, generation: Generation | None) -> bool:
    """Whether so many rows call for a build; cheap enough to ask often."""
    if generation is None:
        return rows > EXACT_UP_TO_ROWS
    return rows - generation.rows > min(_TAIL_SHARE * generation.rows, EXACT_UP_TO_ROWS)


def plan_build(rows: int, generation: Generation | None, drift: Callable[[], float]) -> Plan:
    """Decide what a build has to do.

    rows: the committed ones. drift: quantisation error of rows that are not covered, as a multiple
    of that at training; asked for only if it matters.
    """
    if generation is None:
        if rows > EXACT_UP_TO_ROWS:
            return Plan(Step.TRAIN, f"{rows:,} rows have no index", is_tuned_anew=True)
        return Plan(Step.KEEP, f"up to {EXACT_UP_TO_ROWS:,} rows are searched exactly")
    tail = rows - generation.rows
    if not needs_build(rows, generation):
        return Plan(Step.KEEP, f"{tail:,} rows past the index are searched exactly")
    if rows >= _GROWTH_FOR_TRAINING * generation.training.of_rows:
        return Plan(
            Step.TRAIN,
            f"{rows:,} rows are {rows / generation.training.of_rows:.1f} times those at training",
            is_tuned_anew=True,
        )
    if (error := drift()) > _DRIFT_FOR_TRAINING:
        return Plan(
            Step.TRAIN,
            f"new rows lie {error:.2f} times as far from the centroids as those at training",
            is_tuned_anew=True,
        )
    return Plan(
        Step.EXTEND,
        f"{tail:,} rows are past the index",
        is_tuned_anew=rows > _GROWTH_FOR_TUNING * generation.tuning.of_rows,
    )
