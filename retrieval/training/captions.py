"""Read datasets of captioned photos: a directory with `captions.jsonl` and `images/`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import NotFoundError, UsageError


@dataclass(frozen=True)
class CaptionedPhoto:
    """A photo and its captions in the chosen languages."""

    path: Path
    captions: tuple[str, ...]


def read_captioned_photos(
    dataset: Path, split: str, languages: Sequence[str] = ("en",)
) -> list[CaptionedPhoto]:
    """Read one split of a dataset in the order of its `captions.jsonl`.

    A line is a JSON object: `image` (a file name inside `images/`), `split`, and for each
    language a list of captions. Photos without a caption in `languages` are left out.

    Raises:
        NotFoundError: `captions.jsonl` or a photo that it names does not exist.
        UsageError: a line is not of this form, or the split has no captioned photo.
    """
    listing = dataset / "captions.jsonl"
    if not listing.is_file():
        raise NotFoundError(
            f"No captions.jsonl in {dataset}. A training dataset is a folder with captions.jsonl "
            "(image, split, and a list of captions a language on each line) and images/."
        )
    photos: list[CaptionedPhoto] = []
    with listing.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = _parse(line, f"{listing}:{number}")
            if row["split"] != split:
                continue
            captions = tuple(text for lang in languages for text in row.get(lang, ()))
            path = dataset / "images" / row["image"]
            if not path.is_file():
                raise NotFoundError(f"{listing}:{number} names {path}, which does not exist.")
            if captions:
                photos.append(CaptionedPhoto(path, captions))
    if not photos:
        raise UsageError(
            f"{listing} has no photo of split '{split}' with captions in: {', '.join(languages)}."
        )
    return photos


def digest_of_photos(photos: Sequence[CaptionedPhoto]) -> str:
    """Compute the SHA-256 of the contents of the photos, in their order."""
    digest = hashlib.sha256()
    for photo in photos:
        with photo.path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("image"), str) or "split" not in row:
        raise UsageError(f"{where}: expected an object with 'image', 'split' and captions.")
    return row
