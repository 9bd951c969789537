"""Folder with `captions.jsonl` and `images/`: one line per image, captions by language."""

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.datasets.annotations import (
    annotation_file,
    choose_split,
    image_folder,
    in_split,
    read_json_lines,
)
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, text_id
from benchmarks.datasets.builder import DatasetBuilder
from retrieval.errors import UsageError

_FORM = (
    "The format jsonl is a folder with captions.jsonl, on each line an object such as "
    '{"image": "a.jpg", "split": "val", "en": ["A cat ."]}, and the image files in images/.'
)


def load_jsonl(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    images: str | None = None,
) -> RetrievalDataset:
    """Load captions.jsonl: `image`, optionally `split`, and a list of captions for each language.

    Any key with a list of strings is a language. Default of `language`: the only one, or
    `en`. Captions are numbered by their index in the list. An image on a second line is reported,
    and only its new captions are added.

    Raises:
        NotFoundError: The file or all images are missing.
        UsageError: Malformed line, or unknown split or language.
    """
    listing = annotation_file(path, ["captions.jsonl"], _FORM)
    rows = [(where, _checked(row, where, listing)) for where, row in read_json_lines(listing)]
    if not rows:
        raise UsageError(f"{listing} is empty. {_FORM}")
    split = choose_split(_splits(rows, listing), split, listing)
    rows = [(where, row) for where, row in rows if in_split(row.get("split"), split)]
    language = _choose_language(rows, language, listing)
    folder = image_folder(
        images,
        [listing.parent / "images", listing.parent],
        [row["image"] for _, row in rows],
        _FORM,
    )
    builder = DatasetBuilder(listing.parent.resolve().name, split, language)
    numbers: Counter[str] = Counter()
    for where, row in rows:
        known_images = len(builder.images)
        image = builder.add_image(row["image"], folder / row["image"])
        captions = row.get(language, [])
        if len(builder.images) == known_images:
            builder.report(
                ProblemKind.DUPLICATE_ID, where, f"{image} again: only new captions are added"
            )
            known = {builder.texts.get(text_id(image, n)) for n in range(numbers[image])}
            captions = [words for words in captions if words.strip() not in known]
        for words in captions:
            builder.add_caption(text_id(image, numbers[image]), words, image, where)
            numbers[image] += 1
    return builder.build(fetch_hint=_FORM)


def _checked(row: dict[str, Any], where: str, listing: Path) -> dict[str, Any]:
    if not isinstance(row.get("image"), str) or not row["image"]:
        raise UsageError(f"{listing.parent / where}: 'image' is not a file name. {_FORM}")
    if not isinstance(row.get("split", ""), str):
        raise UsageError(f"{listing.parent / where}: 'split' is not a string.")
    return row


def _splits(rows: list[tuple[str, dict[str, Any]]], listing: Path) -> dict[str, int]:
    sizes = Counter(row.get("split") for _, row in rows)
    if None not in sizes:
        return {str(name): size for name, size in sizes.items()}
    if len(sizes) > 1:
        where = next(where for where, row in rows if "split" not in row)
        raise UsageError(f"{listing.parent / where}: no 'split', while other lines have one.")
    return {}


def _choose_language(
    rows: list[tuple[str, dict[str, Any]]], wanted: str | None, listing: Path
) -> str:
    languages = sorted({key for _, row in rows for key, value in row.items() if _is_texts(value)})
    chosen = wanted or (languages[0] if len(languages) == 1 else "en")
    for where, row in rows:
        if not _is_texts(row.get(chosen, [])):
            raise UsageError(f"{listing.parent / where}: '{chosen}' is not a list of strings.")
    if chosen not in languages:
        raise UsageError(
            f"{listing} has no captions in '{chosen}'. "
            f"Its languages: {', '.join(languages) or 'none'}."
        )
    return chosen


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(words, str) for words in value)
