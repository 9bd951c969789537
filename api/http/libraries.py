"""Several named libraries in one service: each with its own application below `/libraries/NAME/`.

Keys, hosts, origins and limits hold for all of them. A library that cannot be opened is listed with
the reason, and does not keep the others from being served.
"""

import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.app import create_app, service_middleware
from api.http.batching import State
from api.http.metrics import CONTENT_TYPE, ServiceMetrics
from api.http.middleware.access import OWN_LIBRARY, require
from api.http.middleware.keys import KeyStore
from api.http.middleware.tickets import Tickets
from api.http.openapi import install_description
from api.http.problems import install_problem_handlers, problem
from api.http.root_path import at_root_path
from api.http.routes.dependencies import NoLibrary, Service
from api.http.schemas import Health
from api.http.schemas.libraries import LibraryList, LibrarySchema
from api.http.settings import ServiceSettings
from retrieval.errors import MMSearchError, UsageError
from retrieval.library import Library

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
FOLDER = "/libraries/"

_log = logging.getLogger("mmsearch")


class _Group:
    """The applications of the libraries, and what has failed of them."""

    def __init__(self, applications: dict[str, FastAPI], failures: dict[str, str]) -> None:
        self.applications = applications
        self.failures = failures
        self.names = [*applications, *failures]

    def describe(self, name: str) -> LibrarySchema:
        """Describe a library as it is now."""
        address = at_root_path(f"{FOLDER}{name}/")
        application = self.applications.get(name)
        service = getattr(application.state, "service", None) if application else None
        if name in self.failures or service is None:
            detail = self.failures.get(name, "It is being opened.")
            state = "failed" if name in self.failures else "starting"
            return LibrarySchema.model_validate(
                {"name": name, "address": address, "state": state, "detail": detail}
            )
        if isinstance(service, NoLibrary):
            return LibrarySchema(
                name=name, address=address, state="no library", detail=service.detail
            )
        assert isinstance(service, Service)
        if service.inference.state is State.READY:
            return LibrarySchema(name=name, address=address, state="ready")
        return LibrarySchema(
            name=name, address=address, state="starting", detail=service.inference.reason
        )

    def end(self, name: str, error: Exception) -> None:
        """Serve a library no longer, whose encoder cannot be loaded, say."""
        _log.error("The library %s is not served: %s", name, error)
        self.failures[name] = str(error)


class ToLibraries:
    """ASGI middleware that passes requests below `/libraries/NAME/` on to the library's app."""

    def __init__(self, app: ASGIApp, group: _Group, root_path: str) -> None:
        self._app = app
        self._group = group
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on: to a library, or to what all have in common."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if own := scope.get("state", {}).get(OWN_LIBRARY):
            await self._of_directory(own)(scope, receive, send)
            return
        path: str = scope["path"]
        if self._root_path and path.startswith(self._root_path + "/"):
            path = path[len(self._root_path) :]
        name, slash, rest = path.removeprefix(FOLDER).partition("/")
        application = self._group.applications.get(name)
        if not path.startswith(FOLDER) or application is None or name in self._group.failures:
            await self._app(scope, receive, send)
            return
        inner = dict(scope)
        # Without a slash behind the name, the application leads to its page.
        inner["path"] = f"/{rest}" if slash else f"{self._root_path}{FOLDER}{name}"
        inner["headers"] = list(scope["headers"])
        headers = MutableHeaders(scope=inner)
        if (prefix := headers.get("x-forwarded-prefix")) is not None:
            headers["x-forwarded-prefix"] = f"{prefix.partition(',')[0].rstrip('/')}{FOLDER}{name}"
        await application(inner, receive, send)

    def _of_directory(self, directory: Path) -> ASGIApp:
        for application in self._group.applications.values():
            service = getattr(application.state, "service", None)
            if isinstance(service, Service) and service.library.path == directory:
                return application
        return self._app


def create_libraries_app(
    libraries: Mapping[str, Library | Path | MMSearchError],
    settings: ServiceSettings,
    *,
    device: str = "auto",
) -> FastAPI:
    """Build the application of several libraries.

    Args:
        libraries: By name, each open, its directory, or the error of opening it.
        settings: Settings of the service, which hold for all libraries.
        device: Device of the encoders.

    Raises:
        UsageError: An invalid name, or settings that only one library can have.
    """
    for name in libraries:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be the name of a library: use letters, digits, - and _."
            )
    if settings.uploads is not None or settings.spaces:
        raise UsageError("`--uploads` and `--space` are for a service of one library.")
    group = _Group({}, {})
    for name, library in libraries.items():
        if isinstance(library, MMSearchError):
            group.failures[name] = str(library)
            continue
        root_path = f"{settings.root_path}{FOLDER}{name}"
        group.applications[name] = create_app(
            library,
            settings.model_copy(update={"root_path": root_path}),
            device=device,
            load_in_background=True,
            on_failed=lambda error, name=name: group.end(name, error),  # type: ignore[misc]
        )
    group.names = list(libraries)
    return _common_app(group, settings)


def _common_app(group: _Group, settings: ServiceSettings) -> FastAPI:
    keys = KeyStore(settings.api_keys, settings.api_keys_file)
    metrics = ServiceMetrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for name, application in group.applications.items():
                context = application.router.lifespan_context(application)
                try:
                    await stack.enter_async_context(context)
                except MMSearchError as error:
                    group.end(name, error)
            yield

    app = FastAPI(
        title="mmsearch",
        version=version("mmsearch"),
        description="Search images and texts by meaning, in several libraries.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=service_middleware(settings, keys, Tickets(keys), metrics),
    )
    app.state.libraries = group.applications
    app.state.metrics = metrics
    app.state.keys = keys
    router = _routes(group, metrics)
    install_problem_handlers(app, [router])
    install_description(app)
    app.include_router(router)
    # Outermost, since the application of each library has all guards itself.
    app.add_middleware(ToLibraries, group=group, root_path=settings.root_path)
    return app


def _routes(group: _Group, metrics: ServiceMetrics) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/libraries", tags=["library"], dependencies=[Depends(require("read"))])
    async def libraries() -> LibraryList:
        """List the libraries, with their addresses and states."""
        return LibraryList(libraries=[group.describe(name) for name in group.names])

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        """Lead to the page of the first library that is served."""
        for name in group.names:
            if name not in group.failures:
                return RedirectResponse(f"{FOLDER}{name}/", 307)
        return problem(503, "No library can be served; see the log.")

    @router.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """Answer as long as the service runs."""
        return Health(status="ok")

    @router.get("/readyz", tags=["health"], response_model=Health)
    async def readyz(request: Request) -> Health | Response:
        """Answer 200 when no library is starting any more."""
        states = [group.describe(name).state for name in group.names]
        if "starting" in states:
            return problem(503, "A library is starting.", retry_after_s=1)
        return Health(status="ready")

    @router.get("/metrics", response_class=Response, dependencies=[Depends(require("read"))])
    def common_metrics() -> Response:
        """Return metrics of what the libraries have in common; each has its own."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router
