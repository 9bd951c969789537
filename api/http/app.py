"""Build the FastAPI application of the HTTP service."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api.http.lifespan import Lifespan, MakeEngine
from api.http.metrics import ServiceMetrics
from api.http.middleware.access import Authentication
from api.http.middleware.access_log import AccessLog
from api.http.middleware.bodies import BodyLimit
from api.http.middleware.disconnect import DisconnectDetection
from api.http.middleware.framing import FramingGuard
from api.http.middleware.headers import SecurityHeaders
from api.http.middleware.hosts import HostGuard
from api.http.middleware.keys import KeyStore
from api.http.middleware.origins import CrossSiteGuard
from api.http.middleware.proxies import ForwardedHeaders
from api.http.middleware.rates import Rate, RateLimit
from api.http.middleware.tickets import Tickets
from api.http.openapi import install_description
from api.http.problems import install_problem_handlers
from api.http.routes import (
    archives,
    batch_search,
    collections,
    embed,
    explain,
    facets,
    folders,
    health,
    item_media,
    item_texts,
    items,
    jobs,
    map_points,
    notes,
    page,
    search,
    simple_search,
    stats,
    uploads,
)
from api.http.routes import library as library_routes
from api.http.settings import ServiceSettings
from retrieval.errors import UsageError
from retrieval.library import Library
from retrieval.search.joint import JointEngine


def create_app(
    library: Library | Path,
    settings: ServiceSettings | None = None,
    *,
    device: str = "auto",
    load_in_background: bool = False,
    on_failed: Callable[[Exception], None] = lambda _: None,
    make_engine: MakeEngine = JointEngine,
    guards: Sequence[Middleware] | None = None,
) -> FastAPI:
    """Build the application of one library.

    Encoder and reranker are loaded and warmed up when the application starts, so that its first
    answer is as fast as the others. All encoding and searching runs on one thread, because PyTorch
    uses all cores by itself.

    Args:
        library: The library, or its directory. Until there is one, searches are answered 503.
        settings: Settings of the service. (default: from the environment)
        device: Device of the encoder.
        load_in_background: Start at once and answer searches with 503 until the models are
            loaded; otherwise start when they are loaded, or raise the error of loading.
        on_failed: Called with the error of loading in the background.
        make_engine: Makes the engine of a library, its spaces and a device.
        guards: What requests pass before the routes; None: all of `service_middleware`. Others are
            for what stands behind a service that has let them pass.

    Raises:
        UsageError: Invalid API keys, an invalid rate limit, or CORS for every origin without keys.
    """
    chosen = settings or ServiceSettings()
    keys = KeyStore(chosen.api_keys, chosen.api_keys_file)
    if "*" in chosen.cors_origins and not keys:
        raise UsageError("`--cors-origin *` allows every web site, so it needs an API key.")
    Rate(chosen.rate_limit)  # raises UsageError if it is invalid
    metrics = ServiceMetrics()
    tickets = Tickets(keys)

    app = FastAPI(
        title="mmsearch",
        version=version("mmsearch"),
        description="Search images and texts by meaning.",
        lifespan=Lifespan(
            library,
            chosen,
            metrics,
            device,
            load_in_background,
            on_failed,
            names_library=not keys,
            make_engine=make_engine,
        ),
        docs_url=None,  # its scripts come from another server
        redoc_url=None,
        separate_input_output_schemas=False,  # a saved search is answered as it is asked
        middleware=(
            service_middleware(chosen, keys, tickets, metrics) if guards is None else list(guards)
        ),
    )
    app.state.metrics = metrics
    app.state.keys = keys
    app.state.tickets = tickets
    install_problem_handlers(app)
    modules = (
        search,
        simple_search,
        batch_search,
        facets,
        explain,
        items,
        item_media,
        item_texts,
        map_points,
        collections,
        archives,
        uploads,
        embed,
        jobs,
        folders,
        library_routes,
        notes,
        stats,
        health,
        page,
    )
    install_problem_handlers(app, [module.router for module in modules])
    install_description(app)
    for module in modules:
        app.include_router(module.router)
    return app


def service_middleware(
    settings: ServiceSettings, keys: KeyStore, tickets: Tickets, metrics: ServiceMetrics
) -> list[Middleware]:
    """List the middleware in the order in which requests pass it.

    First a request becomes what the client has sent to a trusted proxy. Security headers and
    metrics follow, since they apply to all answers, also to refusals. Then ambiguous and cross-site
    requests are refused, then requests without a valid key, then those beyond the rate limit; only
    after that the body is read.
    """
    origins = settings.cors_origins
    guards = [
        Middleware(ForwardedHeaders, settings.root_path, settings.trusted_proxies),
        Middleware(SecurityHeaders),
        Middleware(AccessLog, metrics, log=settings.access_log),
        Middleware(FramingGuard, metrics),
    ]
    if settings.allowed_hosts or not keys:
        # DNS rebinding gives a page no key, so with keys any host name is safe.
        guards.append(Middleware(HostGuard, settings.allowed_hosts, metrics))
    if origins:
        guards.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
                expose_headers=["Retry-After"],
            )
        )
    return [
        *guards,
        Middleware(CrossSiteGuard, origins, metrics, settings.allowed_hosts),
        Middleware(Authentication, keys, tickets, metrics),
        Middleware(RateLimit, settings.rate_limit, metrics),
        Middleware(BodyLimit, int(settings.max_body_mb * 1e6), metrics),
        Middleware(DisconnectDetection),
    ]
