"""Ask the service that runs for a library on this machine, if there is one."""

import http.client
import os
import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from api.resident.launcher import leave_to_the_asker
from api.resident.places import connect, is_possible, library_sockets
from retrieval.errors import MMSearchError

if TYPE_CHECKING:
    from api.http.schemas import SearchRequest
    from api.http.schemas.facets import FacetsSchema
    from retrieval.library import Library
    from retrieval.search.answer import Answer
    from retrieval.search.query import JointQuery, Reranking

_CONNECT_S = 1.0
_ANSWER_S = 15.0
_AUTO_DEVICE = "auto"

_Model = TypeVar("_Model", bound=BaseModel)
_T = TypeVar("_T")


class _Connection(http.client.HTTPConnection):
    """HTTP through a connected Unix socket."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        connected.settimeout(_ANSWER_S)
        self.sock = connected


def search(
    library: "Library", joint: "JointQuery", reranking: "Reranking", device: str
) -> "Answer | None":
    """Let the service of a library answer a search; None if none can answer this one.

    Whatever goes wrong there, the search is made here, where errors are told.
    """

    def ask() -> "Answer | None":
        from api.cli.remote import answer_of, request_of
        from api.http.schemas import ServedAnswer

        request = request_of(joint, reranking)
        if not request.spaces:  # a service may have another default
            request = request.model_copy(update={"spaces": [library.space().id]})
        answer = _ask(library, "/v1/search", request, ServedAnswer)
        return None if answer is None else answer_of(answer)

    return _answered(ask, library, device)


def facets(
    library: "Library", request: "SearchRequest", limit: int, device: str
) -> "FacetsSchema | None":
    """Let the service of a library count the hits of a request; None if none can."""
    from api.http.schemas.facets import FacetsSchema

    def ask() -> FacetsSchema | None:
        return _ask(library, f"/v1/facets?limit={limit}", request, FacetsSchema)

    return _answered(ask, library, device)


def _answered(ask: Callable[[], _T | None], library: "Library", device: str) -> _T | None:
    found = None
    if device == _AUTO_DEVICE and is_possible() and any(map(os.path.lexists, _places(library))):
        try:
            found = ask()
        except (MMSearchError, OSError, http.client.HTTPException, ValidationError):
            found = None
    if found is None:
        leave_to_the_asker()
    return found


def _places(library: "Library") -> list[str]:
    return library_sockets(str(library.path), version("mmsearch"))


def _ask(
    library: "Library", path: str, request: "SearchRequest", model: type[_Model]
) -> _Model | None:
    """Post a request; None without a service, or where it answers with an error."""
    body = request.model_dump_json(by_alias=True, exclude_defaults=True)
    for place in _places(library):
        if (connected := connect(place, _CONNECT_S)) is None:
            continue
        connection = _Connection(connected)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, body.encode(), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return model.model_validate_json(content) if answer.status == http.client.OK else None
    return None
