"""Tables of Flickr30k and Flickr8k in circulation: one caption or one image per line."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets.annotations import (
    NAME_THE_ENCODING,
    annotation_file,
    choose_split,
    image_folder,
    in_split,
    numbered_lines,
    only_language,
    read_text,
)
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, text_id
from benchmarks.datasets.builder import DatasetBuilder
from benchmarks.datasets.csv_table import read_csv
from retrieval.errors import UsageError

_FETCH = (
    "Flickr30k is had by request at https://shannon.cs.illinois.edu/DenotationGraph/: put the "
    "folder flickr30k-images/ beside the table (results.csv, captions.txt, "
    "results_20130124.token or flickr_annotations_30k.csv)."
)
_FILES = ("flickr_annotations_30k.csv", "results.csv", "captions.txt", "*.token", "*.token.txt")
_FOLDERS = (
    "flickr30k-images",
    "flickr30k_images",
    "flickr30k_images/flickr30k_images",
    "images",
    "Images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    ".",
)
_NUMBERED_IMAGE = re.compile(r"(?P<image>[^\t]+)#(?P<number>\d+)\t(?P<words>.*)")
_WITHOUT_SECOND_BAR = re.compile(r"\s*(?P<number>\d+)\s+(?P<words>\S.*)")


@dataclass(frozen=True)
class _Caption:
    where: str
    image: str
    words: str
    number: int | None = None
    split: str | None = None
    repaired: bool = False


def load_flickr30k_csv(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    images: str | None = None,
    encoding: str | None = None,
) -> RetrievalDataset:
    """Load one of these layouts, detected by the first line, or a folder that contains one.

    - `image_name| comment_number| comment` (results.csv), also comma-separated (captions.txt). The
      bar missing in one line of the file in circulation is added, and reported.
    - `image,caption` (captions.txt), commas in unquoted captions understood.
    - `1.jpg#0<TAB>caption` (the .token files of the authors).
    - `raw,sentids,split,filename,img_id` with JSON lists of captions; without `split`, `test`.

    Only the last one has splits; for the others they are in Karpathy's JSON (format karpathy).

    Raises:
        NotFoundError: The file or all images are missing.
        UsageError: Line of another layout than the first, or unknown split or language.
    """
    source = annotation_file(path, _FILES, _FETCH)
    language = only_language(language, "en", source)
    captions = list(_read(source, encoding))
    if not captions:
        raise UsageError(f"{source} holds no captions.")
    sizes = Counter({c.image: c.split for c in captions if c.split is not None}.values())
    split = choose_split(sizes, split, source)
    captions = [caption for caption in captions if in_split(caption.split, split)]
    folder = image_folder(
        images,
        [source.parent / name for name in _FOLDERS],
        list(dict.fromkeys(caption.image for caption in captions)),
        _FETCH,
    )
    builder = DatasetBuilder(source.stem, split, language)
    numbers: Counter[str] = Counter()
    for caption in captions:
        image = builder.add_image(caption.image, folder / caption.image)
        number = numbers[image] if caption.number is None else caption.number
        numbers[image] += 1
        if caption.repaired:
            builder.report(ProblemKind.REPAIRED_LINE, caption.where, "the second '|' is missing")
        builder.add_caption(text_id(image, number), caption.words, image, caption.where)
    return builder.build(fetch_hint=_FETCH)


def _read(source: Path, encoding: str | None) -> Iterator[_Caption]:
    text = read_text(source, encoding, way_out=NAME_THE_ENCODING)
    first = next((line for _, line in numbered_lines(text)), "")
    bars = [name.strip() for name in first.split("|")]
    commas = [name.strip() for name in first.split(",")]
    if bars == ["image_name", "comment_number", "comment"]:
        return _read_bars(source, text)
    if {"raw", "split", "filename"} <= set(commas):
        return _read_lists(source, text)
    if commas in (["image_name", "comment_number", "comment"], ["image", "caption"]):
        return _read_commas(source, text, len(commas))
    if _NUMBERED_IMAGE.fullmatch(first):
        return _read_tokens(source, text)
    raise UsageError(
        f"{source}:1: not a layout of Flickr30k that is known: '{first[:80]}'. Expected "
        "'image_name| comment_number| comment', 'image,caption', 'image.jpg#0<TAB>caption' or "
        "'raw,sentids,split,filename,img_id'."
    )


def _read_bars(source: Path, text: str) -> Iterator[_Caption]:
    for number, line in list(numbered_lines(text))[1:]:
        where = f"{source.name}:{number}"
        image, *rest = line.split("|", 2)
        repair = _WITHOUT_SECOND_BAR.fullmatch(rest[0]) if len(rest) == 1 else None
        if repair:
            rest = [repair["number"], repair["words"]]
        if len(rest) != 2:
            raise UsageError(f"{source}:{number}: expected three fields, split by '|'.")
        yield _Caption(
            where,
            _image_name(image, source, number),
            rest[1],
            _number(rest[0], source, number),
            repaired=repair is not None,
        )


def _read_commas(source: Path, text: str, width: int) -> Iterator[_Caption]:
    for number, line in list(numbered_lines(text))[1:]:
        fields = next(csv.reader([line]))
        if len(fields) > width:
            # Commas in a caption that is not quoted: some of these files do not quote.
            fields = line.split(",", width - 1)
        if len(fields) < width:
            raise UsageError(f"{source}:{number}: expected {width} fields, split by commas.")
        yield _Caption(
            f"{source.name}:{number}",
            _image_name(fields[0], source, number),
            fields[-1],
            _number(fields[1], source, number) if width == 3 else None,
        )


def _read_tokens(source: Path, text: str) -> Iterator[_Caption]:
    for number, line in numbered_lines(text):
        caption = _NUMBERED_IMAGE.fullmatch(line)
        if not caption:
            raise UsageError(f"{source}:{number}: expected 'image.jpg#0<TAB>caption'.")
        yield _Caption(
            f"{source.name}:{number}", caption["image"], caption["words"], int(caption["number"])
        )


def _read_lists(source: Path, text: str) -> Iterator[_Caption]:
    for number, row in read_csv(source, text, ","):
        try:
            captions = json.loads(row["raw"])
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{source}:{number}: 'raw' is not a JSON list: {error}.") from error
        if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise UsageError(f"{source}:{number}: 'raw' is not a JSON list of strings.")
        image = _image_name(row["filename"], source, number)
        for place, words in enumerate(captions):
            yield _Caption(f"{source.name}:{number}", image, words, place, row["split"])


def _image_name(name: str, source: Path, number: int) -> str:
    if not name.strip():
        raise UsageError(f"{source}:{number}: no image name.")
    return name.strip()


def _number(digits: str, source: Path, number: int) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", digits):
        raise UsageError(f"{source}:{number}: '{digits.strip()}' is not a caption's number.")
    return int(digits)
