"""`mmsearch facets`: count what a library or a search holds, by year, folder, camera and so on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from api.cli.completion import MODALITIES, one_of
from api.cli.filter_options import (
    AfterOption,
    BeforeOption,
    CameraOption,
    CollectionOption,
    HasTextOption,
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
    from api.client import SearchOptions
    from api.http.schemas.facets import FacetsSchema, FacetValueSchema, FacetValuesSchema
    from retrieval.filters import Filter
    from retrieval.library import Library
    from retrieval.media import Modality
    from retrieval.search.facet_values import FacetQuestion


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
    facet: Annotated[
        str | None,
        option(
            "--facet",
            "NAME",
            "List the values of one facet alone: years, months, folders, places, cameras, kinds or "
            "columns.NAME.",
        ),
    ] = None,
    below: Annotated[
        list[str],
        option(
            "--below",
            "VALUE",
            "With --facet: only values in this one: the year of months, a folder, a country (and, "
            "repeated, a region of it).",
        ),
    ] = [],  # noqa: B006
    contains: Annotated[
        str, option("--contains", "TEXT", "With --facet: only values with TEXT in their names.")
    ] = "",
    modality: Annotated[
        str,
        option(
            "--modality",
            "image|text|audio",
            "Modality to count: image (with video frames and pages), text (chunks of text) or "
            "audio (windows of sound).",
            autocompletion=one_of(
                {name: said for name, said in MODALITIES.items() if name != "any"}
            ),
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
    has_text: HasTextOption = None,
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
    from retrieval.search.facet_values import FacetQuestion
    from retrieval.search.query import parse_min_relevance, parse_modality

    if facet is None and (below or contains):
        raise UsageError("`--below` and `--contains` need a `--facet`.")
    asked = _Asked(
        text,
        parse_min_relevance(min_relevance),
        parse_modality(modality),
        parse_filter(**options_of(parse_filter, given)),
        limit,
        FacetQuestion(facet, tuple(below), contains, limit) if facet is not None else None,
    )
    is_local = library is not None or space is not None or device != "auto"
    if server and is_local:
        raise UsageError("`--library`, `--space` and `--device` cannot be used with `--server`.")
    if address := server or (None if is_local else os.environ.get("MMSEARCH_SERVER")):
        counted = _count_there(address, asked)
    else:
        counted = _count_here(open_library(library), space, device, asked)
    if as_json:
        print_json(counted.model_dump())
    else:
        _print(counted)


@dataclass(frozen=True)
class _Asked:
    """What is counted. values: of one facet alone."""

    text: str | None
    min_relevance: float | Literal["auto"]
    modality: "Modality"
    where: "Filter | None"
    limit: int
    values: "FacetQuestion | None"


def _count_there(address: str, asked: _Asked) -> "FacetsSchema | FacetValuesSchema":
    from api.client import Client, search_request

    options = _options(asked)
    with Client(address) as client:
        if asked.values is not None:
            return client.facet_values(**vars(asked.values), text=asked.text, **options)
        return client.ask_facets(search_request({"text": asked.text, **options}), asked.limit)


def _options(asked: _Asked) -> "SearchOptions":
    options: SearchOptions = {"modality": asked.modality.value, "where": asked.where}
    if asked.text is not None:
        options["min_relevance"] = asked.min_relevance
    return options


def _count_here(
    library: "Library", space: str | None, device: str, asked: _Asked
) -> "FacetsSchema | FacetValuesSchema":
    from api.cli import resident
    from api.client import search_request
    from api.http.schemas.facets import FacetsSchema, FacetValuesSchema

    if asked.values is None and space is None:
        request = search_request({"text": asked.text, **_options(asked)})
        answered = resident.facets(library, request, asked.limit, device)
        if answered is not None:
            return answered
    from retrieval.search.joint import JointEngine, engine_of
    from retrieval.search.query import Query, TextPart

    if space is None:
        engine = JointEngine(library, device=device).engine_for(asked.modality)
    else:
        engine = engine_of(library, space_id=space, device=device)
    query = None
    if asked.text is not None:
        query = Query(
            (TextPart(asked.text),),
            modality=asked.modality,
            where=asked.where,
            min_relevance=asked.min_relevance,
        )
    if asked.values is not None:
        found = engine.facet_values(asked.values, query, where=asked.where, modality=asked.modality)
        return FacetValuesSchema.of(found)
    counted = engine.facets(query, where=asked.where, modality=asked.modality, limit=asked.limit)
    return FacetsSchema.of(counted)


def _print(counted: "FacetsSchema | FacetValuesSchema") -> None:
    from api.cli import console
    from api.http.schemas.facets import FacetValuesSchema

    console.out.print(
        f"{counted.total:,} items" + (" (the first; there are more)" if counted.is_partial else "")
    )
    if isinstance(counted, FacetValuesSchema):
        for value in counted.values:
            shown = ", ".join([console.display_path(str(value.value)), *reversed(value.within)])
            console.out.print(f"{value.count:>9,}  {shown}", markup=False)
        if counted.left_out:
            console.out.print(f"{counted.left_out:,} more values: --limit, --contains")
        return
    for name, values in _named(counted).items():
        if values:
            console.out.print(f"\n{name}", markup=False, style="bold")
        for found in values:
            shown = console.display_path(str(found.value))
            console.out.print(f"{found.count:>9,}  {shown}", markup=False)


def _named(counted: "FacetsSchema") -> "dict[str, Sequence[FacetValueSchema[Any]]]":
    named = {name.title(): getattr(counted, name) for name in OF_FILES}
    return named | {f"Column {name}": values for name, values in counted.columns.items()}
