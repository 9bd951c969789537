"""Judgements of people on pairs of COCO's images and captions: ECCV Caption and CxC."""

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path

from benchmarks.datasets.annotations import annotation_file, read_json, read_text
from benchmarks.datasets.base import Direction, ProblemKind
from benchmarks.datasets.builder import DatasetBuilder
from benchmarks.datasets.csv_table import read_csv
from retrieval.errors import UsageError

_FETCH = (
    "ECCV Caption is at https://github.com/naver-ai/eccv-caption: eccv_caption/data/"
    "eccv_caption_to_image.json and eccv_image_to_caption.json. CxC is at "
    "https://github.com/google-research-datasets/Crisscrossed-Captions: data/sits_test.csv, "
    "sis_test.csv and sts_test.csv."
)

_JSON: dict[str, Direction] = {"caption_to_image": "t2i", "image_to_caption": "i2t"}
"""What is in the name of a file of ECCV Caption's form."""

_CSV: dict[tuple[str, str], tuple[tuple[Direction, ...], float]] = {
    ("caption", "image"): (("t2i", "i2t"), 3.0),
    ("image1", "image2"): (("i2i",), 2.5),
    ("caption1", "caption2"): (("t2t",), 3.0),
}
"""By the columns of a file of CxC: its directions, and the score from which a pair is relevant, by
section 3 of the paper."""

_Pair = tuple[Direction, int, int]
"""Direction, query, item; COCO's own numbers of images and captions."""


def add_judgments(
    builder: DatasetBuilder,
    files: str | None,
    threshold: str | None,
    images: Mapping[int, str],
    texts: Mapping[int, str],
) -> None:
    """Read relevance judgements that take the place of a dataset's captions.

    - ECCV Caption (Chun et al. 2022), and what its package writes in the same form:
      `*_caption_to_image.json` and `*_image_to_caption.json`, `{"QUERY": [ITEM, ...]}`, one
      direction each.
    - CxC (Parekh et al. 2021): `sits_*.csv` (captions and images, both directions), `sis_*.csv`
      (pairs of images) and `sts_*.csv` (pairs of captions) with mean scores from 0 to 5.

    A relevant pair has gain 1. Pairs of several files for one direction are joined; those of which
    the dataset lacks one part are left out and reported.

    Args:
        builder: of the dataset, which gets the judgements.
        files: paths of one or several files, comma-separated; None: nothing is read.
        threshold: score of CxC from which a pair is relevant; None: 3, of two images 2.5.
        images: ids of the dataset's images by COCO's `image_id`.
        texts: ids of its captions by COCO's annotation id, which Karpathy calls `sentid`.

    Raises:
        NotFoundError: A file is missing.
        UsageError: A malformed file, one without a pair of the dataset, or a threshold that is not
            a number or that no file has a use for.
    """
    least = _number(threshold)
    names = files.split(",") if files is not None else []
    sources = [annotation_file(Path(name).expanduser(), [], _FETCH) for name in names]
    if least is not None and not any(source.suffix.lower() == ".csv" for source in sources):
        raise UsageError(f"threshold={threshold}: only scores have one, in .csv files of CxC.")
    named = {"t": texts, "i": images}
    for source in sources:
        lost = kept = 0
        for direction, query, item in _pairs(source, least):
            known = named[direction[0]].get(query), named[direction[2]].get(item)
            if known[0] is None or known[1] is None:
                lost += 1
                continue
            kept += 1
            qrels = builder.judgments.setdefault(direction, {})
            qrels.setdefault(known[0], {})[known[1]] = 1
        if not kept:
            raise UsageError(
                f"{source}: none of {lost} relevant pairs is of images and captions of "
                f"{builder.name}, split '{builder.split}'. ECCV Caption judges Karpathy's test "
                "split of COCO, CxC its val and test splits."
            )
        if lost:
            builder.report(
                ProblemKind.UNKNOWN_ID,
                source.name,
                f"{lost} of {lost + kept} relevant pairs have an image or caption that is not in "
                "the dataset: left out",
            )


def _pairs(source: Path, least: float | None) -> Iterator[_Pair]:
    if source.suffix.lower() == ".csv":
        return _scored_pairs(source, least)
    for name, direction in _JSON.items():
        if name in source.name:
            return _listed_pairs(source, direction)
    raise UsageError(
        f"{source.name} is none of *_caption_to_image.json, *_image_to_caption.json and *.csv. "
        f"{_FETCH}"
    )


def _listed_pairs(source: Path, direction: Direction) -> Iterator[_Pair]:
    for query, items in read_json(source).items():
        if not re.fullmatch(r"\d{1,18}", query, re.ASCII) or not _are_numbers(items):
            raise UsageError(
                f"{source}: {query!r}: expected a number of COCO's and a list of such numbers."
            )
        for item in items:
            yield direction, int(query), item


def _are_numbers(items: object) -> bool:
    return isinstance(items, list) and all(
        isinstance(item, int) and not isinstance(item, bool) for item in items
    )


def _scored_pairs(source: Path, least: float | None) -> Iterator[_Pair]:
    for number, row in read_csv(source, read_text(source), ","):
        columns = next((pair for pair in _CSV if {*pair, "agg_score"} <= row.keys()), None)
        if columns is None:
            forms = " or ".join(f"{first},{second},agg_score" for first, second in _CSV)
            raise UsageError(f"{source}:1: expected the columns {forms}. {_FETCH}")
        directions, usual = _CSV[columns]
        try:
            score = float(row["agg_score"])
            first, second = (_coco_number(row[column]) for column in columns)
        except ValueError as error:
            raise UsageError(f"{source}:{number}: {error}.") from error
        if score >= (usual if least is None else least):
            yield directions[0], first, second
            yield directions[-1], second, first


def _coco_number(name: str) -> int:
    """Read the number in `COCO_val2014:sentid:732091` and `COCO_val2014_000000365325.jpg`."""
    found = re.search(r"(?:^|[:_])(\d{1,18})(?:\.jpg)?$", name.strip(), re.ASCII)
    if found is None:
        raise ValueError(f"{name!r} has no number of COCO's at its end")
    return int(found[1])


def _number(threshold: str | None) -> float | None:
    if threshold is None:
        return None
    try:
        least = float(threshold)
    except ValueError:
        least = float("nan")
    if not isfinite(least):
        raise UsageError(f"threshold={threshold}: expected a number, as scores of CxC are, 0 to 5.")
    return least
