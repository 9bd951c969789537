"""Folder with `captions.jsonl` and `images/`: one line per image, captions by language."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.datasets.annotations import (
    annotation_file,
    choose_split,
    image_folder,
    in_split,
    read_json_lines,
)
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, safe_id, text_id
from benchmarks.datasets.builder import DatasetBuilder
from retrieval.errors import UsageError
from retrieval.training.captions import new_captions

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
    extra: Sequence[Path] = (),
) -> RetrievalDataset:
    """Load captions.jsonl: `image`, optionally `split`, and a list of captions for each language.

    Any key with a list of strings is a language. Default of `language`: the only one, or
    `en`. Captions are numbered by their index in the list. An image on a second line is reported,
    and only its new captions are added.

    Args:
        path: The folder, or the file itself.
        split: The split to load.
        language: The language of the captions.
        images: Folder of the images, if it is elsewhere.
        extra: Further files or folders of this form, whose captions are added to the images of the
            same name, unless they differ from those only in punctuation, case and spaces. Their
            splits and other images are ignored.

    Raises:
        NotFoundError: A file or all images are missing.
        UsageError: Malformed line, unknown split or language, or an extra file without captions of
            an image of the dataset.
    """
    listing, split, rows, added = _read(path, split, extra)
    language = _choose_language([*rows, *added], language, listing)
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
        _add(builder, numbers, image, captions, where)
    for where, row in added:
        image = safe_id(row["image"])
        ids = (text_id(image, number) for number in range(numbers[image]))
        known_texts = [builder.texts[text] for text in ids if text in builder.texts]
        captions = new_captions(known_texts, row.get(language, []))
        _add(builder, numbers, image, captions, where)
    return builder.build(fetch_hint=_FORM)


def jsonl_languages(path: Path, split: str | None, extra: Sequence[Path] = ()) -> tuple[str, ...]:
    """List the languages of a split in the order of the first line that has each.

    Raises as `load_jsonl`.
    """
    _, _, rows, added = _read(path, split, extra)
    found = {
        key: None for _, row in [*rows, *added] for key, value in row.items() if _is_texts(value)
    }
    return tuple(found)


_Rows = list[tuple[str, dict[str, Any]]]


def _read(
    path: Path, split: str | None, extra: Sequence[Path]
) -> tuple[Path, str | None, _Rows, _Rows]:
    """Read the file, the chosen split, its lines, and the lines of extra files for its images."""
    listing = annotation_file(path, ["captions.jsonl"], _FORM)
    rows = [(where, _checked(row, where, listing)) for where, row in read_json_lines(listing)]
    if not rows:
        raise UsageError(f"{listing} is empty. {_FORM}")
    split = choose_split(_splits(rows, listing), split, listing)
    names = {row["image"] for _, row in rows}
    rows = [(where, row) for where, row in rows if in_split(row.get("split"), split)]
    chosen = {row["image"] for _, row in rows}
    added: _Rows = []
    for name in extra:
        file = annotation_file(name.expanduser(), ["captions.jsonl"], _FORM)
        more = [(where, _checked(row, where, file)) for where, row in read_json_lines(file)]
        if not any(row["image"] in names for _, row in more):
            raise UsageError(f"{file} has captions of no image that {listing} names.")
        added += [(where, row) for where, row in more if row["image"] in chosen]
    return listing, split, rows, added


def _add(
    builder: DatasetBuilder, numbers: Counter[str], image: str, captions: list[str], where: str
) -> None:
    for words in captions:
        builder.add_caption(text_id(image, numbers[image]), words, image, where)
        numbers[image] += 1


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


def _choose_language(rows: _Rows, wanted: str | None, listing: Path) -> str:
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
