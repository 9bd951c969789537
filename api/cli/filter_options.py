"""Filter options of `mmsearch search`, and their conversion to a filter."""

import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.completion import KINDS, list_of
from api.cli.options import option
from retrieval.errors import UsageError, first_problem
from retrieval.media import MediaKind
from retrieval.objects.paths import given_uri

if TYPE_CHECKING:
    from retrieval.filters import Filter

SourceFilterOption = Annotated[
    Path | None, option("--source", "DIR", "Only items in this directory or file.")
]
PathFilterOption = Annotated[
    str | None, option("--path", "GLOB", "Only paths that match a glob: *.jpg, 2023/**/*.png.")
]
KindFilterOption = Annotated[
    str | None,
    option(
        "--kind",
        "LIST",
        "Comma-separated file kinds: image (or photo), video, audio, document, text, table.",
        autocompletion=list_of(KINDS),
    ),
]
AfterOption = Annotated[
    str | None, option("--after", "DATE", "Only items taken at or after a date: 2023, 2023-05-17.")
]
BeforeOption = Annotated[
    str | None,
    option("--before", "DATE", "Only items taken before a date: 2024, 2024-01-31T12:00."),
]
CameraOption = Annotated[
    str | None, option("--camera", "TEXT", "Only items whose camera name contains TEXT: canon.")
]
KeywordOption = Annotated[
    str | None, option("--keyword", "TEXT", "Only items with a keyword, in any case: holiday.")
]
PersonOption = Annotated[
    str | None, option("--person", "NAME", "Only items that show a named person, in any case.")
]
LabelOption = Annotated[
    str | None, option("--label", "TEXT", "Only items with a colour label, in any case: red.")
]
CollectionOption = Annotated[
    str | None, option("--collection", "NAME", "Only items of a collection, in any case: summer.")
]
WithHiddenOption = Annotated[
    bool, typer.Option("--with-hidden", help="Also hidden items, which are left out otherwise.")
]
HasTextOption = Annotated[
    bool | None,
    typer.Option(
        "--has-text/--no-text", help="Only items that show text, or none; see `index --ocr`."
    ),
]
RatingOption = Annotated[
    float | None,
    option("--min-rating", "STARS", "Only items with at least this rating.", min=-1, max=5),
]
WhereOption = Annotated[str | None, option("--where", "JSON", "Filter as JSON; see the reference.")]

_KIND_NAMES = {
    **{f"{kind}s": kind for kind in MediaKind},
    **dict.fromkeys(("photo", "photos", "picture", "pictures"), MediaKind.IMAGE),
    **dict.fromkeys(("pdf", "pdfs"), MediaKind.DOCUMENT),
    **dict.fromkeys(("sound", "sounds"), MediaKind.AUDIO),
}
"""Other names that people use."""

_PARTIAL_DATE = re.compile(r"(\d{4})(?:-(\d\d))?", re.ASCII)


def parse_filter(
    *,
    source: Path | None = None,
    path: str | None = None,
    kind: str | None = None,
    after: str | None = None,
    before: str | None = None,
    camera: str | None = None,
    keyword: str | None = None,
    person: str | None = None,
    label: str | None = None,
    min_rating: float | None = None,
    collection: str | None = None,
    has_text: bool | None = None,
    with_hidden: bool = False,
    where: str | None = None,
) -> "Filter | None":
    """Build a filter that requires all given options; None without options.

    Args:
        source: Directory or file.
        path: Glob over paths.
        kind: Comma-separated file kinds.
        after: First date, inclusive.
        before: Last date, exclusive.
        camera: Part of the camera name.
        keyword: A whole keyword.
        person: Whole name of a person.
        label: Colour label.
        min_rating: Stars.
        collection: Name of a collection.
        has_text: Whether text was recognised in them, or they have text of their own.
        with_hidden: Also hidden items.
        where: Filter as JSON.

    Raises:
        UsageError: Invalid date, kind or filter.
    """
    wanted: dict[str, Any] = {}
    if source is not None:
        # Like the sources of the indexer: symlinks are not resolved.
        wanted["source"] = given_uri(source) or os.path.abspath(source.expanduser())  # noqa: PTH100
    if path is not None:
        wanted["path"] = path
    if kind is not None:
        wanted["kind"] = _kinds(kind)
    if after is not None or before is not None:
        wanted["taken_at"] = {"since": _date("--after", after), "before": _date("--before", before)}
    named = {"camera": camera, "keyword": keyword, "person": person, "label": label}
    named["collection"] = collection
    given = {**named, "has_text": has_text}
    wanted |= {field: value for field, value in given.items() if value is not None}
    if with_hidden:
        wanted["hidden"] = "any"
    if min_rating is not None:
        wanted["rating"] = {"min": min_rating}
    if where is not None:
        wanted["and"] = [_filter(where)]
    if not wanted:
        return None
    from pydantic import ValidationError

    from retrieval.filters import Filter

    try:
        return Filter.model_validate(wanted)
    except ValidationError as error:
        raise UsageError(first_problem(error)) from None


def _kinds(text: str) -> list[MediaKind]:
    names = [name.strip().lower() for name in text.split(",")]
    try:
        return [MediaKind(_KIND_NAMES.get(name, name)) for name in names]
    except ValueError:
        wrong = next(n for n in names if _KIND_NAMES.get(n, n) not in set(MediaKind))
        raise UsageError(
            f"--kind: there is no kind {wrong!r}. There are: {', '.join(MediaKind)}."
        ) from None


def _date(option: str, text: str | None) -> datetime | None:
    """Parse an ISO 8601 date or time, or its year and month."""
    if text is None:
        return None
    partial = _PARTIAL_DATE.fullmatch(text.strip())
    try:
        if partial:
            return datetime(int(partial[1]), int(partial[2] or 1), 1)
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option}: {text!r} is not a date. Write 2023, 2023-05, 2023-05-17 or "
            "2023-05-17T14:30."
        ) from None


def _filter(text: str) -> "Filter":
    from pydantic import ValidationError

    from retrieval.filters import Filter

    try:
        return Filter.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(f"--where: {first_problem(error)}") from None
