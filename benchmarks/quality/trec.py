"""Write TREC run and qrels files, so that other tools can check our figures.

A run has lines `query Q0 item rank score tag`, qrels have `query 0 item gain`; trec_eval,
ir-measures and ranx read both. Fields are separated by white space, which names of files and
captions may contain: it is written as `!` and its code in hexadecimal, `!20` for a space and
`!u3000` for an ideographic one, and so is `!` itself. `!` is the first visible character of ASCII,
so that escaped ids sort as the ids do and other tools break ties as we do, but for ids that differ
by white space beyond ASCII. All other ids stay as they are.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.metrics.base import Qrels, Run
from retrieval.errors import UsageError

# All up to `!`; white space as Python understands it; halves of surrogate pairs, which stand
# for bytes of file names that are not UTF-8 and cannot be written.
_UNSAFE = re.compile(r"[\x00-!]|\s|[\ud800-\udfff]")


def write_run(
    path: str | os.PathLike[str],
    run: Run | Iterable[tuple[str, Mapping[str, float]]],
    tag: str = "mmsearch",
) -> None:
    """Write a run, or pairs of query id and hits from a generator.

    Items are ranked as by `judge`, from 1. Scores are written so that they read back as the same
    float64. trec_eval and derived tools use single precision: their figures equal ours if scores
    are float32 or differ by more. A query without items has no line, but still counts as having
    found nothing.

    Raises UsageError for scores that are not finite and for empty ids.
    """
    label = _escape(tag)
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for query, hits in run.items() if isinstance(run, dict) else run:
            start = _escape(query)
            ranking = sorted(sorted(hits, reverse=True), key=hits.__getitem__, reverse=True)
            for rank, item in enumerate(ranking, start=1):
                score = float(hits[item])
                if not math.isfinite(score):
                    raise UsageError(f"The score of {item!r} for query {query!r} is {score}.")
                file.write(f"{start} Q0 {_escape(item)} {rank} {score!r} {label}\n")


def write_qrels(path: str | os.PathLike[str], qrels: Qrels) -> None:
    """Write qrels in their order. A query without items has no line.

    Raises UsageError for empty ids.
    """
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for query, gains in qrels.items():
            start = _escape(query)
            file.writelines(f"{start} 0 {_escape(item)} {int(g)}\n" for item, g in gains.items())


def _escape(name: str) -> str:
    if not name:
        raise UsageError("A TREC file cannot contain an empty id.")
    return _UNSAFE.sub(_code, name)


def _code(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"!{code:02x}" if code < 0x100 else f"!u{code:04x}"
