"""Open hits with the programs of the system, and a query in the page."""

import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import typer

from api.cli.options import complain
from retrieval.errors import NotFoundError, UsageError
from retrieval.objects.paths import is_object

if TYPE_CHECKING:
    from retrieval.search.answer import Answer
    from retrieval.search.query import JointQuery

PAGE = "page"
_USUAL_PORT = 8765
_MOST_WAIT_S = 120.0


def with_page(args: Sequence[str]) -> list[str]:
    """Put `page` after each `--open` that no number follows, and not `page` itself.

    >>> with_page(["--open", "a dog", "--open", "2"])
    ['--open', 'page', 'a dog', '--open', '2']
    """
    given: list[str] = []
    for place, arg in enumerate(args):
        if arg == "--":
            return [*given, *args[place:]]
        given.append(arg)
        if arg == "--open" and not _is_choice(args[place + 1 : place + 2]):
            given.append(PAGE)
    return given


def parse_choices(values: Sequence[str]) -> list[int | str]:
    """Read the values of `--open`: numbers of hits, or `page`. Raises UsageError for others."""
    wrong = next((value for value in values if not _is_choice([value])), None)
    if wrong is not None:
        raise UsageError(f"--open takes the number of a hit, or {PAGE}, not {wrong!r}.")
    return [PAGE if value == PAGE else int(value) for value in values]


def open_chosen(
    chosen: Sequence[int | str],
    answer: "Answer",
    joint: "JointQuery",
    address: str | None,
    library: Path | None,
) -> None:
    """Open hits by their ranks, and then the query in the page.

    Args:
        chosen: Ranks of hits, or `page`.
        answer: Hits to choose from.
        joint: The query that is shown in the page.
        address: Address of the service that answered; None: a library of this machine did.
        library: Directory of this library; None: the default one.

    Raises:
        NotFoundError: There is no hit of that rank, or its file is not on this machine.
    """
    by_rank = {hit.rank: hit.path for hit in answer.hits}
    for rank in (one for one in chosen if isinstance(one, int)):
        if rank not in by_rank:
            raise NotFoundError(f"There is no hit {rank} to open.")
        path = by_rank[rank]
        if not os.path.exists(path):  # noqa: PTH110 - names need not be valid text
            is_elsewhere = bool(address) or is_object(path)
            elsewhere = " on this machine; open the page instead: --open page" * is_elsewhere
            raise NotFoundError(f"{path} is not there{elsewhere}.")
        _launch(path)
    if PAGE in chosen:
        question = page_query(joint)
        if left := left_out_of_page(joint):
            complain(f"The page shows the query without its {' and '.join(left)}.")
        if address:
            _launch(f"{address.rstrip('/')}/{question}")
        else:
            _serve_page(library, question)


def left_out_of_page(joint: "JointQuery") -> list[str]:
    """Name the parts of a query that the address of the page has no words for."""
    from retrieval.search.query import AudioPart, ImagePart

    query, where = joint.query, joint.query.where
    kinds = (("images", ImagePart), ("sounds", AudioPart))
    left = [name for name, kind in kinds if any(isinstance(part, kind) for part in query.parts)]
    if any(abs(part.weight) != 1 for part in query.parts):
        left.append("weights")
    if where is not None and (
        where.model_fields_set
        - {"source", "collection", "person", "keyword", "label", "kind", "rating"}
    ):
        left.append("other filters")
    return left


def page_query(joint: "JointQuery") -> str:
    """Write a query as the address of the page has it, with the filters that the page knows."""
    from retrieval.search.query import ItemPart

    query = joint.query
    unwanted = (part.text for part in query.text_parts if part.weight < 0)
    words = [query.words, *(f'-"{text}"' if " " in text else f"-{text}" for text in unwanted)]
    given = [("q", text) for text in [" ".join(filter(None, words))] if text]
    given += [
        ("like", f"{'-' * (part.weight < 0)}{part.item_id}")
        for part in query.parts
        if isinstance(part, ItemPart)
    ]
    if len(joint.modalities) == 1:
        given += [("what", joint.modalities[0])]
    if query.where is not None:
        where = query.where
        for name in ("source", "collection", "person", "keyword", "label"):
            given += [(name, getattr(where, name))] if getattr(where, name) else []
        given += [("kind", kind) for kind in where.kind or ()]
        if where.rating and where.rating.min is not None:
            given += [("rating", f"{where.rating.min:g}")]
    if isinstance(query.min_relevance, float | int):
        given += [("min", f"{query.min_relevance:g}")]
    given += [("group", "1")] if query.group_by_file else []
    given += [("sort", query.sort)] if query.sort != "relevance" else []
    return f"?{urlencode(given)}" if given else ""


def _is_choice(values: Sequence[str]) -> bool:
    return bool(values) and (values[0] == PAGE or (values[0].isascii() and values[0].isdigit()))


def _launch(target: str) -> None:
    """Open a file or an address; says so where the system has nothing to open it with."""
    try:
        failed = typer.launch(target) != 0
    except OSError:
        failed = True
    if failed:
        complain(f"This system has no program to open {target} with.")


def _serve_page(library: Path | None, question: str) -> None:
    """Serve a library until Ctrl-C, and open its page as soon as it answers."""
    from api.cli.serve import serve

    port = _free_port()
    address = f"http://127.0.0.1:{port}/{question}"
    complain(f"{address} (Ctrl-C ends it)")
    threading.Thread(target=_open_when_ready, args=(port, address), daemon=True).start()
    named = None if library is None else [str(library)]
    serve(library=named, host="127.0.0.1", port=port, log_level="warning")


def _open_when_ready(port: int, address: str) -> None:
    end = time.monotonic() + _MOST_WAIT_S
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                break
        except OSError:
            time.sleep(0.1)
    _launch(address)


def _free_port() -> int:
    """Return the usual port of `mmsearch serve` if it is free, else another one."""
    for port in (_USUAL_PORT, 0):
        with socket.socket() as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise UsageError("No port of 127.0.0.1 is free.")
