"""Answer errors with problem details (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from itertools import chain
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from api.http.batching import (
    ClientGoneError,
    NotReadyError,
    OverloadedError,
    PastDeadlineError,
    RefusedError,
)
from api.http.jobs import FinishedJobError
from api.http.schemas import Problem
from api.http.uploads import StorageFullError, UnacceptableFileError
from retrieval.errors import (
    LibraryError,
    LibraryGoneError,
    LibraryLockedError,
    MMSearchError,
    NotFoundError,
    ReadOnlyLibraryError,
    UnreadableFileError,
    UsageError,
)
from retrieval.library import Library

MEDIA_TYPE = "application/problem+json"

_STATUS_OF_ERRORS: list[tuple[type[MMSearchError], HTTPStatus]] = [
    (UsageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (UnacceptableFileError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (UnreadableFileError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (StorageFullError, HTTPStatus.INSUFFICIENT_STORAGE),
    (FinishedJobError, HTTPStatus.CONFLICT),
    (OverloadedError, HTTPStatus.TOO_MANY_REQUESTS),
    (NotReadyError, HTTPStatus.SERVICE_UNAVAILABLE),
    (LibraryGoneError, HTTPStatus.SERVICE_UNAVAILABLE),
    (LibraryLockedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ReadOnlyLibraryError, HTTPStatus.CONFLICT),
    (PastDeadlineError, HTTPStatus.GATEWAY_TIMEOUT),
    (ClientGoneError, HTTPStatus.REQUEST_TIMEOUT),
]


_RETRY_S = 5


def problem(status: int, detail: str, *, retry_after_s: int | None = None) -> JSONResponse:
    """Build an error response; `retry_after_s` sets the Retry-After header."""
    body = problem_of(status, detail)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return JSONResponse(body.model_dump(), status, headers, MEDIA_TYPE)


def problem_of(status: int, detail: str) -> Problem:
    """Describe an error."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)


def install_problem_handlers(app: FastAPI, routers: Sequence[APIRouter] = ()) -> None:
    """Install handlers of expected errors; `AccessLog` answers unexpected ones with 500.

    routers: all of the application, whose routes say what is allowed where a method is not.
    """

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        details = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        ]
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(details))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        response = problem(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = _methods_at(routers, request)
            response.headers["Allow"] = ", ".join(allowed) or response.headers.get("Allow", "")
        return response

    @app.exception_handler(MMSearchError)
    def known(_request: Request, error: MMSearchError) -> JSONResponse:
        if isinstance(error, LibraryError):
            error = _library_gone(app) or error  # whatever it is, it comes of that
        status = status_of(error)
        retry_after_s = error.retry_after_s if isinstance(error, RefusedError) else None
        if isinstance(error, LibraryGoneError | LibraryLockedError):
            retry_after_s = _RETRY_S
        return problem(status, str(error), retry_after_s=retry_after_s)


def status_of(error: MMSearchError) -> HTTPStatus:
    """Return the status of the answer to an error."""
    return next(
        (status for kind, status in _STATUS_OF_ERRORS if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def library_gone_problem(app: Any) -> JSONResponse | None:
    """Build the answer to an unexpected error of a request, if it comes of a library that is gone.

    app: the application of the request, as of its scope.
    """
    gone = _library_gone(app)
    if gone is None:
        return None
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(gone), retry_after_s=_RETRY_S)


def _library_gone(app: Any) -> LibraryGoneError | None:
    service = getattr(getattr(app, "state", None), "service", None)
    library = getattr(service, "library", None)  # not before there is one
    return library.missing() if isinstance(library, Library) else None


def _methods_at(routers: Sequence[APIRouter], request: Request) -> list[str]:
    """List the methods of all routes of a path; the router names only those of the first."""
    methods: set[str] = set()
    for route in chain.from_iterable(router.routes for router in routers):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)
