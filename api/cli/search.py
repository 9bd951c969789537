"""`mmsearch search`: search a local library or a service."""

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from api.cli.lazy_group import without_collections
from api.cli.options import (
    DeviceOption,
    JsonOption,
    LibraryOption,
    ModalityOption,
    RerankBudgetOption,
    RerankDepthOption,
    RerankOption,
    ServerOption,
    SpacesOption,
    complain,
    option,
    options_of,
    print_json,
)
from retrieval.errors import UsageError
from retrieval.library import Library, open_library
from retrieval.search.query import DEFAULT_BUDGET_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from retrieval.catalog import Item
    from retrieval.search.query import JointQuery


def search(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Text to search for.")] = None,
    image: Annotated[
        Path | None, option("--image", "FILE", "Find items similar to this image.")
    ] = None,
    minus: Annotated[
        list[str], option("--minus", "TEXT", "Find items dissimilar to this text. Repeatable.")
    ] = [],  # noqa: B006 - Typer needs a list, and it is not changed
    like: Annotated[
        list[int], option("--like", "ID", "Find items similar to this item. Repeatable.")
    ] = [],  # noqa: B006
    k: Annotated[int, option("-k", "N", "Number of hits.")] = 10,
    cursor: Annotated[
        str | None,
        option("--cursor", "CURSOR", "Continue from `next_cursor` of an earlier answer."),
    ] = None,
    modality: ModalityOption = "any",
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
    mode: Annotated[
        str,
        option(
            "--mode",
            "NAME",
            "Search mode: vector (by meaning), text (by words), hybrid (both), auto (hybrid "
            "if some file has a telling word, else vector).",
        ),
    ] = "auto",
    min_relevance: Annotated[
        str | None,
        option(
            "--min-relevance",
            "P|auto",
            "Minimum relevance of hits, 0 to 1; auto: the best cut, found by query. (default: 0; "
            "with --sort date: auto)",
        ),
    ] = None,
    sort: Annotated[
        str,
        option(
            "--sort",
            "NAME",
            "Order of hits: relevance, date (newest first), date-asc (oldest first); by date come "
            "only hits above the minimum relevance.",
        ),
    ] = "relevance",
    group: Annotated[
        bool,
        typer.Option(
            "--group", help="Collapse by file: only the best frame, page or chunk of each."
        ),
    ] = False,
    diversity: Annotated[
        float,
        option(
            "--diversity",
            "D",
            "Result diversity, 0 to 1 (maximal marginal relevance, 1 - lambda).",
            min=0,
            max=1,
        ),
    ] = 0,
    literal: Annotated[
        bool,
        typer.Option(
            "--literal",
            help="Search for all words as they are; do not turn dates, places and cameras among "
            "them into filters.",
        ),
    ] = False,
    contact_sheet: Annotated[
        Path | None,
        option("--contact-sheet", "FILE", "Write the hits as a contact sheet (image file)."),
    ] = None,
    rerank: RerankOption = "auto",
    rerank_depth: RerankDepthOption = None,
    rerank_budget: RerankBudgetOption = DEFAULT_BUDGET_MS,
    server: ServerOption = None,
    library: LibraryOption = None,
    space: SpacesOption = [],  # noqa: B006
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Search for images or texts by a text, an image, or both."""
    given = locals()
    from api.cli import console
    from retrieval.search.query import (
        JointQuery,
        Query,
        Sort,
        parse_min_relevance,
        parse_modalities,
        parse_mode,
        parse_sort,
        read_parts,
    )

    wanted = parse_filter(**options_of(parse_filter, given))
    query = Query(
        read_parts(text, image, minus=minus, like=like),
        k=k,
        mode=parse_mode(mode),
        min_relevance=None if min_relevance is None else parse_min_relevance(min_relevance),
        group_by_file=group,
        diversity=diversity,
        cursor=cursor,
        where=wanted,
        sort=parse_sort(sort),
        parse=not literal,
    )
    joint = JointQuery(query, parse_modalities(modality), tuple(space))
    is_local = library is not None or device != "auto"
    if server and is_local:
        raise UsageError("`--library` and `--device` cannot be used with `--server`.")

    from retrieval.search.query import Reranking

    reranking = Reranking(rerank, rerank_depth, rerank_budget)
    is_here = is_local or bool(space)
    address = server or (None if is_here else os.environ.get("MMSEARCH_SERVER"))
    with ExitStack() as stack:
        if address:
            from api.cli.remote import answer_of, picture_of, request_of
            from api.client import Client

            client = stack.enter_context(Client(address))
            answer = answer_of(client.ask(request_of(joint, reranking)))
            read: Callable[[Item], Image] = partial(picture_of, client)
        else:
            with without_collections():
                from retrieval.media.items import read_item_image
                from retrieval.search.joint import JointEngine

            opened = open_library(library)
            read = partial(read_item_image, max_pixels=opened.max_pixels)
            answer = JointEngine(opened, space, device=device).search(joint, reranking)
        if as_json:
            from api.http.schemas import SearchAnswer

            body = SearchAnswer.of(answer, text, image=str(image) if image else None)
            print_json(body.model_dump())
        else:
            for warning in answer.warnings:
                complain(warning)
            by_date = query.sort is not Sort.RELEVANCE
            console.print_understood(answer)
            console.print_answer(answer, are_here=not address, with_dates=by_date)
            if not answer.hits:
                complain(
                    f"Nothing was found on {address}." if address else _why_nothing(opened, joint)
                )
        if contact_sheet and answer.hits:
            from api.drawing.contact_sheet import write_contact_sheet

            title = text or (str(image) if image else f"like {', '.join(map(str, like))}")
            pictures = [hit for hit in answer.hits if hit.item.has_picture]
            write_contact_sheet(pictures or answer.hits, title, contact_sheet, read)


def _why_nothing(library: Library, joint: "JointQuery") -> str:
    """Explain why a search has no hits."""
    with library.catalog.snapshot() as snapshot:
        spaces = joint.space_ids or (library.space().id,)
        counts = [snapshot.counts(space_id).items for space_id in spaces]
    if not any(items[modality] for items in counts for modality in joint.modalities):
        first, *others = (f"{modality}s" for modality in joint.modalities)
        missing = f"no {first} yet" + "".join(f", and no {other}" for other in others)
        return f"The library has {missing}. Add some with `mmsearch index PATH...`."
    if joint.query.cursor:
        return "No more hits."
    return "No hits. Relax the filters, --min-relevance or --mode."
