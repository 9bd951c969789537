"""Read captioned photos, a directory with `captions.jsonl` and `images/`, and translations."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieval.errors import NotFoundError, UsageError


@dataclass(frozen=True)
class CaptionedPhoto:
    """A photo and its captions in the chosen languages.

    languages: of each caption; empty where nobody asks.
    """

    path: Path
    captions: tuple[str, ...]
    languages: tuple[str, ...] = field(default=(), compare=False)


def read_captioned_photos(
    dataset: Path, split: str, languages: Sequence[str] = ("en",), extra: Sequence[Path] = ()
) -> list[CaptionedPhoto]:
    """Read one split of a dataset in the order of its `captions.jsonl`.

    A line is a JSON object: `image` (a file name inside `images/`), `split`, and for each
    language a list of captions. Photos without a caption in `languages` are left out.

    Args:
        dataset: directory with `captions.jsonl` and `images/`.
        split: the split to read.
        languages: languages of the captions, in the order of the result.
        extra: further files of this form (or directories with a `captions.jsonl`), whose captions
            are added to the photos of the same name; a caption that a photo has already, but for
            punctuation, case and spaces, is not. Their splits do not matter, and neither do
            photos that the dataset does not have.

    Raises:
        NotFoundError: a file of captions, or a photo that the dataset names, does not exist.
        UsageError: a line is not of this form, the split has no captioned photo, or an extra file
            has no photo of the dataset.
    """
    listing = dataset / "captions.jsonl"
    if not listing.is_file():
        raise NotFoundError(
            f"No captions.jsonl in {dataset}. A training dataset is a folder with captions.jsonl "
            "(image, split, and a list of captions a language on each line) and images/."
        )
    added = [_by_image(file) for file in extra]
    names: set[str] = set()
    photos: list[CaptionedPhoto] = []
    for where, row in _rows(listing):
        if "split" not in row:
            raise UsageError(f"{where}: expected an object with 'image', 'split' and captions.")
        names.add(row["image"])
        if row["split"] != split:
            continue
        path = dataset / "images" / row["image"]
        if not path.is_file():
            raise NotFoundError(f"{where} names {path}, which does not exist.")
        rows = [row, *(more for file in added for more in file.get(row["image"], ()))]
        captions = [(text, lang) for lang in languages for text in _captions(rows, lang)]
        if captions:
            photos.append(CaptionedPhoto(path, *zip(*captions, strict=True)))
    for file, by_image in zip(extra, added, strict=True):
        if names.isdisjoint(by_image):
            raise UsageError(f"{file} has captions of no photo that {listing} names.")
    if not photos:
        raise UsageError(
            f"{listing} has no photo of split '{split}' with captions in: {', '.join(languages)}."
        )
    return photos


def read_parallel(file: Path, languages: Sequence[str]) -> list[dict[str, str]]:
    """Read sentences that mean the same in several languages.

    A line is a JSON object with a text, or a list whose first text counts, for each language; a
    file of captions that are translations will do. Lines of a `split` other than `train`, and those
    in fewer than two of the languages, are left out.

    Args:
        file: JSON lines, gzipped if its name ends so.
        languages: those to read.

    Raises:
        NotFoundError: the file does not exist.
        UsageError: a line is not such an object, or none is left.
    """
    if not file.is_file():
        raise NotFoundError(f"There is no file of parallel sentences at {file}.")
    found = []
    for where, row in _objects(file):
        if row.get("split", "train") != "train":
            continue
        texts = {lang: row[lang] for lang in languages if row.get(lang)}
        texts = {k: text[0] if isinstance(text, list) else text for k, text in texts.items()}
        if not all(isinstance(text, str) for text in texts.values()):
            raise UsageError(f"{where}: expected a text for each language.")
        if len(texts) > 1:
            found.append(texts)
    if not found:
        raise UsageError(f"{file} has no sentence in two of the languages {', '.join(languages)}.")
    return found


def new_captions(captions: Iterable[str], more: Iterable[str]) -> list[str]:
    """Select the captions of `more` that differ from `captions` in a letter or digit."""
    known = set(map(_letters, captions))
    return [text for text in more if _letters(text) not in known]


def digest_of_photos(photos: Sequence[CaptionedPhoto]) -> str:
    """Compute the SHA-256 of the contents of the photos, in their order."""
    digest = hashlib.sha256()
    for photo in photos:
        with photo.path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def digest_of_texts(texts: Iterable[str]) -> str:
    """Compute the SHA-256 of texts, in their order."""
    # One a line, so line breaks inside a text must not look like those between two.
    lines = (text.replace("\\", "\\\\").replace("\n", "\\n") for text in texts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _by_image(file: Path) -> dict[str, list[dict[str, Any]]]:
    listing = file / "captions.jsonl" if file.is_dir() else file
    if not listing.is_file():
        raise NotFoundError(f"There is no file of captions at {listing}.")
    found: dict[str, list[dict[str, Any]]] = {}
    for _, row in _rows(listing):
        found.setdefault(row["image"], []).append(row)
    return found


def _captions(rows: Sequence[dict[str, Any]], language: str) -> list[str]:
    captions = list(rows[0].get(language, ()))
    for row in rows[1:]:
        captions += new_captions(captions, row.get(language, ()))
    return captions


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _rows(listing: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parse a file of captions: `file:line` and object of each line that is not blank."""
    for where, row in _objects(listing):
        if not isinstance(row.get("image"), str):
            raise UsageError(f"{where}: expected an object with 'image', 'split' and captions.")
        yield where, row


def _objects(listing: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with (
        gzip.open(listing, "rt", encoding="utf-8")
        if listing.suffix == ".gz"
        else listing.open(encoding="utf-8") as lines
    ):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{listing}:{number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UsageError(f"{where}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise UsageError(f"{where}: expected a JSON object.")
            yield where, row
