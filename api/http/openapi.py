"""Complete the OpenAPI description with the parts that FastAPI cannot derive."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.http.middleware.access import is_public
from api.http.problems import MEDIA_TYPE
from api.http.root_path import at_root_path
from api.http.schemas import SearchRequest
from api.http.schemas.batch import BatchRequest

_HAND_PARSED: list[type[BaseModel]] = [BatchRequest, SearchRequest]
"""Models of bodies that routes parse themselves."""

_REF = "#/components/schemas/{model}"

_ERRORS = {
    "400": "The request or its body is malformed",
    "401": "No valid API key",
    "403": "The API key lacks the required scope, or the request is cross-site",
    "307": "The path ends with a slash: repeat the request without it",
    "404": "Not found",
    "405": "The path has no such method: `Allow` lists those that it has",
    "408": "The body did not arrive in time",
    "409": "The job has finished already, or the library may only be read",
    "413": "The body is too large",
    "415": "The media type of the body is not supported",
    "416": "The range is outside of the file",
    "421": "The Host header is not a name of the service",
    "422": "A field is missing, unknown or invalid",
    "429": "Rate limit exceeded or queue full: retry after `Retry-After` seconds",
    "500": "The service failed",
    "503": "The service is starting or shutting down, or its library is not there",
    "504": "Not answered before the deadline",
    "507": "No space left on the disk",
}
_OF_OPERATION = {
    ("post", "/v1/items"): ("507",),
    ("delete", "/v1/jobs/{job_id}"): ("409",),
    ("post", "/v1/collections"): ("409",),
    ("patch", "/v1/collections/{collection_id}"): ("409",),
    ("delete", "/v1/collections/{collection_id}"): ("409",),
    ("post", "/v1/collections/{collection_id}/items"): ("409",),
    ("delete", "/v1/collections/{collection_id}/items"): ("409",),
    ("post", "/v1/hidden"): ("409",),
    ("delete", "/v1/hidden"): ("409",),
    ("post", "/v1/searches"): ("409",),
    ("delete", "/v1/searches/{search_id}"): ("409",),
}
_ALWAYS = ("307", "400", "403", "404", "405", "421", "422", "429", "500", "503", "504")


def install_description(app: FastAPI) -> None:
    """Add hand-parsed bodies, error statuses and API keys to the OpenAPI description."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(described())
        root_path = at_root_path("")
        return described() | ({"servers": [{"url": root_path}]} if root_path else {})

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(description: dict[str, Any]) -> None:
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, defined = models_json_schema(
        [(model, "validation") for model in _HAND_PARSED], ref_template=_REF
    )
    for name, schema in defined["$defs"].items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, if the service requires one.",
        }
    }
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    statuses = {*_ALWAYS, *_OF_OPERATION.get((method, path), ())}
    if not is_public(path):
        operation["security"] = [{}, {"key": []}]
        statuses.add("401")
    if "requestBody" in operation:
        statuses |= {"408", "413", "415"}
    if path.endswith("/file"):
        statuses.add("416")
    responses = operation["responses"]
    for status in sorted(statuses):
        responses[status] = {"description": _ERRORS[status]}
        if status == "307":
            responses[status]["headers"] = {"Location": {"schema": {"type": "string"}}}
            continue
        responses[status]["content"] = {
            MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}
        }
        if status == "405":
            responses[status]["headers"] = {"Allow": {"schema": {"type": "string"}}}
