"""Writes the next generation of an index: trained anew, or the present one with the new rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import SearchSettings, TunableIndex
from retrieval.indices.choice import choose
from retrieval.indices.faiss.gpu import gpus
from retrieval.indices.faiss.gpu_index import on_device
from retrieval.indices.faiss.ivf import FactoryIndex, Stopped
from retrieval.indices.generations import (
    Generation,
    Training,
    Tuning,
    building,
    load_latest,
    write,
)
from retrieval.indices.growth import Plan, Step, plan_build
from retrieval.indices.tuning import tune

TARGET_RECALL = 0.98
"""Of the best 10 by exact search, how many the tuned index finds."""

_DRIFT_SAMPLE = 10_000


@dataclass(frozen=True)
class TuningQueries:
    """Queries of one modality, (m, d) float32, unit.

    own_rows: (m,) int64, the row that each was taken from, which its answer leaves out; None where
    they were not taken from the rows that are searched.
    """

    vectors: Vectors
    own_rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Wishes:
    """What a build is asked for; None keeps what the index has, or leaves it to the choice by size.

    factory: a FAISS factory string. target_recall: 0..1, at 10 hits. force: build even if nothing
    calls for it.
    """

    factory: str | None = None
    target_recall: float | None = None
    force: bool = False


def build(
    directory: Path,
    modality: str,
    rows: Rows,
    queries: Callable[[], Mapping[str, TuningQueries]],
    *,
    memory_bytes: int,
    wishes: Wishes = Wishes(),
    device: str = "cpu",
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generation | None:
    """Write the next generation over the (n, d) committed rows, if they call for one.

    queries: makes those to tune with, by their modality; called only if needed. on_progress takes
    what is being done, how much of it is done, and the total.

    memory_bytes: what the index may take. device: where it is trained and searched, as torch names
    it.

    Returns None where there was nothing to do. Raises Stopped soon after should_stop() says so (not
    while FAISS trains), LibraryLockedError while another process builds, LibraryError when the
    files cannot be written, UsageError for a factory string that cannot be meant.
    """
    with building(directory, modality):
        before = load_latest(directory, modality, rows)
        present = before[0] if before else None
        if wishes == Wishes():
            plan = plan_build(len(rows), present, lambda: _drift(before, rows))
        else:
            plan = Plan(Step.TRAIN, "it was asked for", is_tuned_anew=True)
        if plan.step is Step.KEEP or not len(rows):
            return None
        if before and plan.step is Step.EXTEND:
            index, training = before[1], before[0].training
        else:
            factory, training = _choose(rows, present, wishes, memory_bytes, device)
            if factory is None:
                return None
            on_progress("Training", 0, 1)
            index = FactoryIndex(factory, rows, device=device)
            on_progress("Training", 1, 1)
            training = replace(
                training,
                reasons=training.reasons + _gpu_reasons(index, device),
                sample=index.training_rows(len(rows)),
                quantisation_error=index.quantisation_error(_sample(rows)),
            )
        index.add(
            rows[len(index) :], on_progress=partial(on_progress, "Adding"), should_stop=should_stop
        )
        if present and not plan.is_tuned_anew:
            tuning = present.tuning
        else:
            target_recall = wishes.target_recall or (
                present.tuning.target_recall if present else TARGET_RECALL
            )
            on_progress("Tuning", 0, 1)
            settings = _tune(on_device(index, device), rows, queries(), target_recall)
            on_progress("Tuning", 1, 1)
            tuning = Tuning(len(rows), target_recall, settings)
        if should_stop():
            raise Stopped
        return write(directory, modality, index, rows, training, tuning)


def _choose(
    rows: Rows, present: Generation | None, wishes: Wishes, memory_bytes: int, device: str
) -> tuple[str | None, Training]:
    """The factory string, None for exact search, and what is known of the training before it."""
    factory = wishes.factory
    if factory is None and present and present.training.is_forced:
        factory = present.factory
    is_forced = factory is not None
    if is_forced:
        reasons: tuple[str, ...] = (f"{factory} was asked for.",)
    else:
        kind = "cuda" if gpus(device) else "cpu"
        choice = choose(len(rows), rows.shape[1], memory_bytes, kind)
        factory, reasons = choice.factory, choice.reasons
    return factory, Training(
        of_rows=len(rows), sample=0, quantisation_error=0.0, is_forced=is_forced, reasons=reasons
    )


def _gpu_reasons(index: FactoryIndex, device: str) -> tuple[str, ...]:
    """What is said of a GPU that was, or should have been, used for training."""
    numbers = gpus(device)
    if not numbers or index.lists is None:
        return ()
    if index.gpu_problem:
        return (f"Trained on the CPU, since the GPU could not: {index.gpu_problem}.",)
    return (f"Trained on {len(numbers)} GPU{'s' if len(numbers) > 1 else ''}.",)


def _tune(
    index: TunableIndex, rows: Rows, queries: Mapping[str, TuningQueries], target_recall: float
) -> dict[str, SearchSettings]:
    nowhere = {name: np.full(len(q.vectors), -1, np.int64) for name, q in queries.items()}
    own_rows = {name: q.own_rows for name, q in queries.items() if q.own_rows is not None}
    return tune(
        index,
        rows,
        {name: q.vectors for name, q in queries.items()},
        target_recall,
        own_rows=nowhere | own_rows,
    )


def _drift(before: tuple[Generation, FactoryIndex] | None, rows: Rows) -> float:
    """Quantisation error of rows that are not covered, as a multiple of that at training."""
    if before is None or not before[0].training.quantisation_error:
        return 1.0
    generation, index = before
    error = index.quantisation_error(_sample(rows[generation.rows :]))
    return error / generation.training.quantisation_error


def _sample(rows: Rows) -> Rows:
    generator = np.random.default_rng(len(rows))
    size = min(len(rows), _DRIFT_SAMPLE)
    return rows[np.sort(generator.choice(len(rows), size, replace=False))]
