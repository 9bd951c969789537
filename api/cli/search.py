"""`mmsearch search`: search a local library or a service."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from api.cli.completion import MODES, SORTS, one_of
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
from api.cli.lazy_group import without_collections
from api.cli.opening import open_chosen, parse_choices, with_page
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
    library_directory,
    option,
    options_of,
    print_json,
)
from api.cli.settings import library_defaults
from retrieval.errors import NotFoundError, UsageError
from retrieval.search.limits import DEFAULT_BUDGET_MS, MAX_K

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from retrieval.catalog import Item
    from retrieval.library import Library
    from retrieval.search.answer import Answer
    from retrieval.search.query import JointQuery, Reranking


class SearchCommand(TyperCommand):
    """`mmsearch search`, with the defaults of the library, and `--open` without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; a lone `--open` opens the page."""
        if not ctx.resilient_parsing and "--server" not in args:
            ctx.default_map = {**(ctx.default_map or {}), **_defaults_of_library(args)}
        return super().parse_args(ctx, with_page(args))


def _defaults_of_library(args: list[str]) -> dict[str, Any]:
    """Read the defaults of the library that the arguments name, by which they are parsed then."""
    from api.cli.folder_library import find_library
    from retrieval.library import default_library_path

    named = [arg.partition("=")[2] for arg in args if arg.startswith("--library=")]
    named += [value for name, value in pairwise(args) if name == "--library"]
    try:
        if named:
            return library_defaults(library_directory(Path(named[-1])) or Path(named[-1]))
        found = find_library(Path.cwd()) if "--here" in args else None
        return library_defaults(found.path if found else default_library_path())
    except (OSError, UsageError):
        return {}


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...", help="Text to search for; several words need no quotes."),
    ] = None,
    image: Annotated[
        str | None, option("--image", "FILE", "Find items similar to this image, a file or URL.")
    ] = None,
    audio: Annotated[
        str | None, option("--audio", "FILE", "Find items similar to this sound.")
    ] = None,
    video: Annotated[
        str | None,
        option("--video", "FILE", "Find this video or similar ones, the best moment of each."),
    ] = None,
    add: Annotated[
        list[str],
        option("--add", "TEXT|FILE", "Add a text, an image or a sound to the query. Repeatable."),
    ] = [],  # noqa: B006 - Typer needs a list, and it is not changed
    subtract: Annotated[
        list[str],
        option(
            "--subtract", "TEXT|FILE", "Find items dissimilar to text, image or sound. Repeatable."
        ),
    ] = [],  # noqa: B006
    minus: Annotated[
        list[str], option("--minus", "TEXT", "Find items dissimilar to this text. Repeatable.")
    ] = [],  # noqa: B006
    like: Annotated[
        list[int], option("--like", "ID", "Find items similar to this item. Repeatable.")
    ] = [],  # noqa: B006
    weight: Annotated[
        float,
        option("--weight", "W", "Weight of the text beside other parts; also 2:TEXT in any part."),
    ] = 1.0,
    k: Annotated[
        int, typer.Option("-k", "-n", "--top", "--limit", metavar="N", help="Number of hits.")
    ] = 10,
    page: Annotated[
        int, option("--page", "N", "Page of the hits, each of as many as -k says.", min=1)
    ] = 1,
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
    has_text: HasTextOption = None,
    with_hidden: WithHiddenOption = False,
    where: WhereOption = None,
    mode: Annotated[
        str,
        option(
            "--mode",
            "NAME",
            "Search mode: vector (by meaning), text (by words), hybrid (both), auto (hybrid "
            "if some file has a telling word, else vector).",
            autocompletion=one_of(MODES),
        ),
    ] = "auto",
    min_relevance: Annotated[
        str | None,
        option(
            "--min-relevance",
            "P|auto",
            "Minimum relevance of hits, 0 to 1; auto: the best cut, found by query. (default: 0; "
            "with --sort date or name: auto)",
        ),
    ] = None,
    sort: Annotated[
        str,
        option(
            "--sort",
            "NAME",
            "Order of hits: relevance, date (newest first), date-asc (oldest first), name (by "
            "path); by date and name come only hits above the minimum relevance.",
            autocompletion=one_of(SORTS),
        ),
    ] = "relevance",
    group: Annotated[
        bool,
        typer.Option(
            "--group", help="Collapse by file: only the best shot, page or chunk of each."
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
            "them into filters, nor 2: before a text into a weight.",
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Print the scores of each hit, too.")
    ] = False,
    paths_only: Annotated[
        bool, typer.Option("-f", "--paths", help="Print the paths of the files and nothing else.")
    ] = False,
    null: Annotated[
        bool,
        typer.Option("-0", "--null", help="As --paths, separated by NUL, as for `xargs -0`."),
    ] = False,
    preview: Annotated[
        bool, typer.Option("-p", "--preview", help="Show the pictures in the terminal.")
    ] = False,
    to_open: Annotated[
        list[str],
        option(
            "--open",
            "[N|page]",
            "Open the hit of this number, or the query in the page (alone or `page`). Repeatable.",
        ),
    ] = [],  # noqa: B006
    contact_sheet: Annotated[
        Path | None,
        option("--contact-sheet", "FILE", "Write the hits as a contact sheet (image file)."),
    ] = None,
    rerank: RerankOption = "auto",
    rerank_depth: RerankDepthOption = None,
    rerank_budget: RerankBudgetOption = DEFAULT_BUDGET_MS,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="Search the current folder; index first what is new in it. `mmsearch TEXT` is "
            "the same.",
        ),
    ] = False,
    update: Annotated[
        bool | None,
        typer.Option(
            "--update/--no-update",
            help="With --here: index large folders without asking, or index nothing.",
        ),
    ] = None,
    server: ServerOption = None,
    library: LibraryOption = None,
    space: SpacesOption = [],  # noqa: B006
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Search for images, texts and sounds by a text, an image, a sound, or several of them."""
    given = locals()
    from api.cli.hits import Style, print_hits, print_paths
    from api.cli.query_parts import parse_parts
    from retrieval.search.query import (
        JointQuery,
        Query,
        Reranking,
        Sort,
        parse_min_relevance,
        parse_modalities,
        parse_mode,
        parse_sort,
    )

    text = " ".join(words) if words else None
    if page > 1 and cursor:
        raise UsageError("--page counts from the first page: use it or --cursor, not both.")
    query = Query(
        parse_parts(text, text_may_be_image=here, **options_of(parse_parts, given)),
        k=min(k * page, MAX_K) if 0 < k <= MAX_K else k,
        mode=parse_mode(mode),
        min_relevance=None if min_relevance is None else parse_min_relevance(min_relevance),
        group_by_file=group or video is not None,
        diversity=diversity,
        cursor=cursor,
        where=parse_filter(**options_of(parse_filter, given)),
        sort=parse_sort(sort),
        parse=not literal,
    )
    joint = JointQuery(query, parse_modalities(modality), tuple(space))
    reranking = Reranking(rerank, rerank_depth, rerank_budget)
    chosen = parse_choices(to_open)
    if server and (library is not None or device != "auto"):
        raise UsageError("`--library` and `--device` cannot be used with `--server`.")
    if here:
        if server:
            raise UsageError("`--here` searches this folder, and cannot be used with `--server`.")
        from api.cli.here import open_here

        found = open_here(library, update=update, device=device)
        library = found.path
        if source is None:
            joint = _below(joint, found.folder)
    is_local = library is not None or bool(space) or device != "auto"
    address = server or (None if is_local else os.environ.get("MMSEARCH_SERVER"))
    with ExitStack() as stack:
        searched = (
            _on_service(address, joint, reranking, stack)
            if address
            else _in_library(_open(library), joint, reranking, device)
        )
        answer = _from(searched.answer, k * (page - 1))
        if as_json:
            from api.http.schemas import SearchAnswer

            print_json(SearchAnswer.of(answer, text, image=image).model_dump())
        elif paths_only or null:
            print_paths(answer, "\0" if null else "\n")
        else:
            style = Style(
                is_verbose=verbose,
                are_here=not address,
                with_dates=query.sort in {Sort.DATE, Sort.DATE_ASC},
                is_ranked=query.sort is Sort.RELEVANCE and not diversity,
                picture_of=searched.read if preview else None,
                next_page=page + 1,
                before=searched.answer.hits[: k * (page - 1)],
            )
            print_hits(answer, style)
            if not answer.hits:
                complain(searched.why_nothing() if page == 1 else "No more hits.")
        if contact_sheet and answer.hits:
            from api.drawing.contact_sheet import write_contact_sheet

            title = text or (image or audio or video or f"like {', '.join(map(str, like))}")
            pictures = [hit for hit in answer.hits if hit.item.has_picture]
            write_contact_sheet(pictures or answer.hits, title, contact_sheet, searched.read)
    open_chosen(chosen, answer, joint, address, library)


@dataclass(frozen=True)
class _Searched:
    """An answer, with what depends on where it is from.

    read: the picture of an item. why_nothing: says why there are no hits.
    """

    answer: "Answer"
    read: "Callable[[Item], Image]"
    why_nothing: "Callable[[], str]"


def _on_service(
    address: str, joint: "JointQuery", reranking: "Reranking", stack: ExitStack
) -> _Searched:
    """Ask a service, whose connection stays open as long as the stack."""
    from api.cli.remote import answer_of, picture_of, request_of
    from api.client import Client

    client = stack.enter_context(Client(address))
    answer = answer_of(client.ask(request_of(joint, reranking)))
    return _Searched(
        answer, partial(picture_of, client), lambda: f"Nothing was found on {address}."
    )


def _in_library(
    opened: "Library", joint: "JointQuery", reranking: "Reranking", device: str
) -> _Searched:
    """Let the service that runs for a library here search it, or do so in this process."""
    from api.cli import resident

    joint = _by_ids(opened, joint)
    answer = resident.search(opened, joint, reranking, device)
    with without_collections():
        from retrieval.media.items import read_item_image

        if answer is None:
            from retrieval.search.joint import JointEngine

            answer = JointEngine(opened, joint.space_ids, device=device).search(joint, reranking)
    read = partial(read_item_image, max_pixels=opened.max_pixels)
    return _Searched(answer, read, lambda: _why_nothing(opened, joint))


def _by_ids(opened: "Library", joint: "JointQuery") -> "JointQuery":
    """Name the spaces of a query by their ids, where they are named as `mmsearch import` does."""
    if not joint.space_ids:
        return joint
    return replace(joint, space_ids=tuple(opened.space(one).id for one in joint.space_ids))


def _open(path: Path | None) -> "Library":
    """Open a library; without a default one, the error says how to search the current folder."""
    from retrieval.library import open_library

    try:
        return open_library(path)
    except NotFoundError as error:
        if path is not None:
            raise
        raise NotFoundError(
            f'{error} Or search the current folder, which is indexed first: mmsearch "..."'
        ) from error


def _below(joint: "JointQuery", folder: str) -> "JointQuery":
    """Limit a query to the files of a folder."""
    from retrieval.filters import Filter

    below = Filter(source=folder)
    where = joint.query.where
    both = below if where is None else where.model_copy(update={"source": folder})
    return replace(joint, query=replace(joint.query, where=both))


def _from(answer: "Answer", first: int) -> "Answer":
    """Leave out the hits of the pages before."""
    return replace(answer, hits=answer.hits[first:]) if first else answer


def _why_nothing(library: "Library", joint: "JointQuery") -> str:
    """Explain why a search has no hits."""
    from retrieval.media import Modality

    with library.catalog.snapshot() as snapshot:
        spaces = joint.space_ids or (library.space().id,)
        counts = [snapshot.counts(space_id).items for space_id in spaces]
    if not any(items[modality] for items in counts for modality in joint.modalities):
        first, *others = (modality.plural for modality in joint.modalities)
        missing = f"no {first} yet" + "".join(f", and no {other}" for other in others)
        if joint.modalities == (Modality.AUDIO,):
            return (
                f"The library has {missing}. `mmsearch index --encoder clap:NAME_OR_DIR "
                "--space new` adds an encoder that takes them."
            )
        return f"The library has {missing}. Add some with `mmsearch index PATH...`."
    if joint.query.cursor:
        return "No more hits."
    return "No hits. Relax the filters, --min-relevance or --mode."
