"""`mmsearch bench ocr`: measure the recognition of text in pictures."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.bench.options import MostPhotosOption, parse_numbers, whole_numbers
from api.cli.options import (
    JsonOption,
    complain,
    option,
    print_result,
    require_paths,
    split_list,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.recognition.ocr import PageResult, PhotosResult


def ocr(
    photos: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Folder of photos to measure the time of."),
    ] = None,
    language: Annotated[
        str, option("--language", "LIST", "Comma-separated languages of the pages: en, zh.")
    ] = "en,zh",
    sizes: Annotated[
        str, option("--sizes", "LIST", "Comma-separated heights of the font in pixels.")
    ] = "12,16,24,48",
    angles: Annotated[
        str, option("--angles", "LIST", "Comma-separated degrees to turn the pages by.")
    ] = "0,3,-8,90,180,270",
    limit: MostPhotosOption = 300,
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="Threads of the models; 0: half of the cores.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure characters right on rendered pages, seconds a photo, and photos skipped cheaply."""
    from benchmarks.recognition.ocr import FONTS, find_font, measure_pages, measure_photos
    from retrieval.recognition.ocr import RapidOcr

    languages = list(split_list(language))
    if unknown := [one for one in languages if one not in FONTS]:
        raise UsageError(f"--language takes {', '.join(FONTS)}, not {unknown[0]!r}.")
    heights = whole_numbers(sizes, "--sizes")
    turns = parse_numbers(angles, "--angles", "numbers", float, math.isfinite)
    if photos is not None:
        require_paths([photos])
    recognizer = RapidOcr(threads=threads)
    for missing in [one for one in languages if find_font(one) is None]:
        complain(f"{missing} is left out: no font for it; install {', '.join(FONTS[missing])}.")
        languages.remove(missing)
    pages = measure_pages(
        recognizer,
        languages,
        heights,
        turns,
        on_page=lambda one: complain(
            f"{one.language} {one.size} px {one.angle:g}°: {one.right:.1%}, {one.seconds:.2f} s"
        ),
    )
    looked_at = None
    if photos is not None:
        looked_at = measure_photos(recognizer, sorted(_images(photos))[:limit])
    body: dict[str, Any] = {
        "model": recognizer.identity,
        "pages": [asdict(page) for page in pages],
        "photos": looked_at and asdict(looked_at) | {"seconds_a_photo": looked_at.seconds_a_photo},
    }
    print_result(body, lambda: _text(recognizer.identity, pages, looked_at), as_json=as_json)


def _images(folder: Path) -> list[Path]:
    from retrieval.media import MediaKind
    from retrieval.media.registry import kind_of

    return [path for path in folder.rglob("*") if kind_of(path.name) is MediaKind.IMAGE]


def _text(model: str, pages: "Sequence[PageResult]", photos: "PhotosResult | None") -> str:
    lines = [model, "", "Characters right (1 - CER) by height of the font and angle"]
    angles = list(dict.fromkeys(page.angle for page in pages))
    lines.append(f"{'':<10}" + "".join(f"{f'{angle:g}°':>8}" for angle in angles) + f"{'s':>8}")
    by_row: dict[tuple[str, int], list[PageResult]] = {}
    for page in pages:
        by_row.setdefault((page.language, page.size), []).append(page)
    for (language, size), row in by_row.items():
        seconds = sum(page.seconds for page in row) / len(row)
        shares = "".join(f"{page.right:>8.1%}" for page in row)
        lines.append(f"{language} {f'{size} px':<7}{shares}{seconds:>8.2f}")
    if photos is not None:
        lines += [
            "",
            f"{photos.photos} photos: {photos.skipped / photos.photos:.0%} skipped, text in "
            f"{photos.with_text}; {photos.seconds_a_photo:.3f} s a photo",
        ]
        for name, count, seconds in (
            ("skipped", photos.skipped, photos.skipping_s),
            ("read", photos.photos - photos.skipped, photos.reading_s),
        ):
            if count:
                lines.append(f"  {name}: {seconds / count:.3f} s")
    return "\n".join(lines)
