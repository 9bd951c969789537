"""`mmsearch facets`: count what a library or a search holds, by year, folder, camera and so on."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.filter_options import (
    AfterOption,
    BeforeOption,
    CameraOption,
    CollectionOption,
    KeywordOption,
    KindFilterOption,
    LabelOption,
    PathFilterOption,
    PersonOption,
    RatingOption,
    SourceFilterOption,
    WhereOption,
    WithHiddenOption,
    parse_filter,
)
from api.cli.options import (
    DeviceOption,
    JsonOption,
    LibraryOption,
    ServerOption,
    SpaceOption,
    option,
    options_of,
    print_json,
)
from retrieval.errors import UsageError
from retrieval.library import open_library
from retrieval.search.facets import MAX_VALUES, OF_FILES

if TYPE_CHECKING:
    from api.http.schemas.facets import FacetsSchema, FacetValueSchema


def facets(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Count the hits of this text.")
    ] = None,
    min_relevance: Annotated[
        str,
        option(
            "--min-relevance",
            "P|auto",
            "Minimum relevance of these hits, 0 to 1; auto: the best cut; 0: everything is a hit.",
        ),
    ] = "auto",
    limit: Annotated[
        int,
        option("--limit", "N", "Maximum number of values of each facet.", min=1, max=MAX_VALUES),
    ] = 10,
    modality: Annotated[
        str,
        option(
            "--modality",
            "image|text",
            "Modality to count: image (with video frames and pages) or text (chunks of text).",
        ),
    ] = "image",
    source: SourceFilterOption = None,
    path: PathFilterOption = None,
    kind: KindFilterOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    camera: CameraOption = None,
    keyword: KeywordOption = None,
    person: PersonOption = None,
    label: LabelOption = None,
    min_rating: RatingOption = None,
    collection: CollectionOption = None,
    with_hidden: WithHiddenOption = False,
    where: WhereOption = None,
    server: ServerOption = None,
    library: LibraryOption = None,
    space: SpaceOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Count items by year, month, folder, place, camera, kind and values of table columns."""
    given = locals()
    from api.cli import console
    from api.http.schemas.facets import FacetsSchema
    from retrieval.search.engine import Engine
    from retrieval.search.query import Query, TextPart, parse_min_relevance, parse_modality

    wanted = parse_filter(**options_of(parse_filter, given))
    found = parse_modality(modality)
    least = parse_min_relevance(min_relevance)
    is_local = library is not None or space is not None or device != "auto"
    if server and is_local:
        raise UsageError("`--library`, `--space` and `--device` cannot be used with `--server`.")
    query = None
    if text is not None:
        query = Query((TextPart(text),), modality=found, where=wanted, min_relevance=least)
    if address := server or (None if is_local else os.environ.get("MMSEARCH_SERVER")):
        from api.client import Client, search_request

        body = {"text": text, "modality": found, "where": wanted}
        with Client(address) as client:
            request = search_request(body | ({"min_relevance": least} if text else {}))
            counted = client.ask_facets(request, limit)
    else:
        engine = Engine(open_library(library), space_id=space, device=device)
        counted = FacetsSchema.of(engine.facets(query, where=wanted, modality=found, limit=limit))
    if as_json:
        print_json(counted.model_dump())
        return
    console.out.print(
        f"{counted.total:,} items" + (" (the first; there are more)" if counted.is_partial else "")
    )
    for name, values in _named(counted).items():
        if values:
            console.out.print(f"\n{name}", markup=False, style="bold")
        for value in values:
            shown = console.display_path(str(value.value))
            console.out.print(f"{value.count:>9,}  {shown}", markup=False)


def _named(counted: "FacetsSchema") -> "dict[str, Sequence[FacetValueSchema[Any]]]":
    named = {name.title(): getattr(counted, name) for name in OF_FILES}
    return named | {f"Column {name}": values for name, values in counted.columns.items()}
