"""Decides when an index no longer fits its rows, and writes the next generation of it.

The next generation is trained from scratch, or the present one with the new rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.embeddings import Rows
from retrieval.errors import LibraryError, UsageError
from retrieval.indices.base import BuildCancelled, VectorEngine, load_engine
from retrieval.indices.choice import EXACT_UP_TO_ROWS, choose, exceeds_cache
from retrieval.indices.faiss import MISSING, is_installed
from retrieval.indices.faiss.gpu import gpus
from retrieval.indices.generations import (
    Generation,
    Training,
    Tuning,
    building,
    latest,
    load_latest,
    write,
)
from retrieval.indices.tuning import TARGET_RECALL, TuningQueries, tune
from retrieval.media import Modality

ENGINE = "faiss"
"""The engine of the indices that are built unless another one is asked for."""

_TAIL_SHARE = 0.1
_GROWTH_FOR_TRAINING = 4
_GROWTH_FOR_TUNING = 1.5
_DRIFT_FOR_TRAINING = 1.2
_DRIFT_SAMPLE = 10_000
_READ_S = 1e-4
"""A random read of 4 KiB from an NVMe disk, one at a time, takes 80 to 100 microseconds."""


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build; None keeps what the index has, or leaves it to the choice by size.

    factory: what to build, in the engine's words; of FAISS a factory string. target_recall: 0..1,
    at 10 hits. force: build even if nothing calls for it. engine: by its name in `ENGINES`.
    """

    factory: str | None = None
    target_recall: float | None = None
    force: bool = False
    engine: str | None = None


class Step(StrEnum):
    """What a build does to an index."""

    KEEP = "keep"
    EXTEND = "extend"
    TRAIN = "train"


@dataclass(frozen=True)
class Plan:
    """A step, the reason for it, and whether the search efforts must be tuned again."""

    step: Step
    reason: str
    retune: bool = False


def is_build_due(rows: int, generation: Generation | None) -> bool:
    """Tell whether this number of rows calls for a build; cheap enough to ask often.

    None is due where FAISS is not installed.
    """
    if not is_installed():
        return False
    if generation is None:
        return rows > EXACT_UP_TO_ROWS
    return rows - generation.rows > min(_TAIL_SHARE * generation.rows, EXACT_UP_TO_ROWS)


def reasons_for(rows: int, generation: Generation | None) -> list[str]:
    """Say in sentences why rows are searched with this generation, or exactly without one."""
    if generation is not None:
        return list(generation.training.reasons)
    if rows > EXACT_UP_TO_ROWS and not is_installed():
        return [f"Searched exactly: an index {MISSING}."]
    if rows > EXACT_UP_TO_ROWS:
        return ["No usable index yet: build one with `mmsearch build-index`."]
    return [f"Up to {EXACT_UP_TO_ROWS:,} vectors are searched exactly."]


def plan_build(rows: int, generation: Generation | None, drift: Callable[[], float]) -> Plan:
    """Decide what a build has to do.

    rows: number of committed rows. drift: quantisation error of rows that are not covered, as a
    multiple of that at training; asked for only if it matters.
    """
    if generation is None or not is_installed():
        if is_build_due(rows, generation):
            return Plan(Step.TRAIN, f"{rows:,} rows have no index", retune=True)
        return Plan(Step.KEEP, reasons_for(rows, None)[0].removesuffix("."))
    tail = rows - generation.rows
    if not is_build_due(rows, generation):
        return Plan(Step.KEEP, f"{tail:,} rows past the index are searched exactly")
    if rows >= _GROWTH_FOR_TRAINING * generation.training.of_rows:
        return Plan(
            Step.TRAIN,
            f"{rows:,} rows are {rows / generation.training.of_rows:.1f} times those at training",
            retune=True,
        )
    if (error := drift()) > _DRIFT_FOR_TRAINING:
        return Plan(
            Step.TRAIN,
            f"new rows lie {error:.2f} times as far from the centroids as those at training",
            retune=True,
        )
    return Plan(
        Step.EXTEND,
        f"{tail:,} rows are past the index",
        retune=rows > _GROWTH_FOR_TUNING * generation.tuning.of_rows,
    )


def build(
    directory: Path,
    modality: str,
    rows: Rows,
    queries: Callable[[], Mapping[Modality, TuningQueries]],
    *,
    memory_bytes: int,
    cache_bytes: int | None = None,
    options: BuildOptions = BuildOptions(),
    device: str = "cpu",
    fields_of: Callable[[int, int], Sequence[tuple[Any, ...]]] | None = None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generation | None:
    """Write the next generation over the committed rows, if they call for one.

    Args:
        directory: of the space.
        modality: of the rows.
        rows: (n, d) float16, the committed ones.
        queries: makes those to tune with, by their modality; called only if needed.
        memory_bytes: what the index may take.
        cache_bytes: memory for the pages of the rows; None: enough.
        options: what was asked for.
        device: where the index is trained and searched, as torch names it.
        fields_of: reads what engines on servers filter by; see `VectorEngine.fields_of`.
        on_progress: takes the name of a stage, how much of it is done, and the total.
        should_stop: asked now and then, but not while the engine trains.

    Returns:
        The generation; None where there was nothing to do.

    Raises:
        BuildCancelled: should_stop() returned true.
        LibraryLockedError: another process builds.
        LibraryError: the files cannot be written, or the server of the index is away.
        UsageError: the factory string is invalid, or FAISS is not installed.
    """
    if options.engine in {None, ENGINE} and not is_installed():
        raise UsageError(f"An index {MISSING}. Without one all vectors are searched exactly.")
    with building(directory, modality):
        before = _load_present(directory, modality, rows, options)
        present = before[0] if before else None
        if options == BuildOptions():
            plan = plan_build(len(rows), present, lambda: _drift(before, rows))
        else:
            plan = Plan(Step.TRAIN, "it was asked for", retune=True)
        if plan.step is Step.KEEP or not len(rows):
            return None
        is_extended = plan.step is Step.EXTEND and before is not None and before[1].is_extendable
        if before and is_extended:
            index, training = before[1], before[0].training
        else:
            name, kind, training = _choose(
                rows, present, options, (memory_bytes, cache_bytes), device
            )
            if kind is None:
                return None
            on_progress("Training", 0, 1)
            path = directory / f"{modality}.{name}"
            index = load_engine(name).create(path, rows, kind, device=device)
            on_progress("Training", 1, 1)
            training = replace(
                training,
                reasons=training.reasons + index.training_reasons,
                sample=index.training_rows(len(rows)),
                quantisation_error=index.quantisation_error(_sample(rows)),
            )
        index.fields_of = fields_of
        index.add(
            rows[len(index) :], on_progress=partial(on_progress, "Adding"), should_stop=should_stop
        )
        try:
            if present and not plan.retune:
                tuning = present.tuning
            else:
                target_recall = options.target_recall or (
                    present.tuning.target_recall if present else TARGET_RECALL
                )
                on_progress("Tuning", 0, 1)
                is_cold = exceeds_cache(len(rows), rows.shape[1], cache_bytes)
                settings = tune(
                    index.on_device(device),
                    rows,
                    queries(),
                    target_recall,
                    read_s=_READ_S if is_cold else 0.0,
                )
                on_progress("Tuning", 1, 1)
                tuning = Tuning(len(rows), target_recall, settings)
            _stop_if(should_stop)
            return write(directory, modality, index, rows, training, tuning)
        except BaseException:
            if not is_extended:
                index.abandon()
            raise


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise BuildCancelled


def _load_present(
    directory: Path, modality: str, rows: Rows, options: BuildOptions
) -> tuple[Generation, VectorEngine] | None:
    """Load the newest generation; raises LibraryError where it is on a server that is away.

    An index that somebody asked for is not replaced by another engine's for that.
    """
    problems: list[str] = []
    loaded = load_latest(directory, modality, rows, problems.append)
    newest = latest(directory, modality, rows)
    is_loaded = loaded is not None and loaded[0] == newest
    if newest and not is_loaded and load_engine(newest.engine).on_server and not options.engine:
        raise LibraryError(f"{problems[0]}. `--engine faiss` builds an index without it.")
    return loaded


def _choose(
    rows: Rows,
    present: Generation | None,
    options: BuildOptions,
    memory: tuple[int, int | None],
    device: str,
) -> tuple[str, str | None, Training]:
    """Choose engine and kind, None for exact search, and describe the training to come."""
    name = options.engine or (present.engine if present else ENGINE)
    kind = options.factory
    if kind is None and present and present.training.is_forced and present.engine == name:
        kind = present.kind
    is_forced = kind is not None
    if is_forced:
        reasons: tuple[str, ...] = (f"{kind} was asked for.",)
    elif name != ENGINE:
        kind, reasons = "", (f"{load_engine(name).library} was asked for.",)
    else:
        kind_of_device = "cuda" if gpus(device) else "cpu"
        choice = choose(len(rows), rows.shape[1], memory[0], kind_of_device, memory[1])
        kind, reasons = choice.factory, choice.reasons
    return (
        name,
        kind,
        Training(
            of_rows=len(rows),
            sample=0,
            quantisation_error=0.0,
            is_forced=is_forced,
            reasons=reasons,
        ),
    )


def _drift(before: tuple[Generation, VectorEngine] | None, rows: Rows) -> float:
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
