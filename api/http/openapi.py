"""The description of the service: what FastAPI cannot tell by itself."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.http.middleware.access import is_public
from api.http.problems import MEDIA_TYPE
from api.http.schemas import SearchRequest

_HAND_READ: list[type[BaseModel]] = [SearchRequest]
"""Bodies that routes read themselves."""

_REF = "#/components/schemas/{model}"

_ERRORS = {
    "400": "The request or its body is broken",
    "401": "No valid API key",
    "403": "The API key lacks the scope that this needs, or another web site asks",
    "404": "There is no such thing",
    "408": "The body did not come in time",
    "409": "It is too late for that",
    "413": "The body is too large",
    "415": "The body is of another type",
    "416": "The range lies outside of the file",
    "421": "The service was reached by a name that it does not know",
    "422": "Something is not as described here",
    "429": "Too many requests: try again after `Retry-After` seconds",
    "500": "The service failed",
    "503": "The service is starting or ending",
    "504": "It took longer than a request may",
    "507": "The disk has no room for it",
}
_OF_ONE = {
    ("post", "/v1/items"): ("404", "507"),
    ("delete", "/v1/jobs/{job_id}"): ("409",),
}
_ALWAYS = ("400", "403", "421", "422", "429", "500", "503", "504")


def install_description(app: FastAPI) -> None:
    """Let an application describe bodies read by hand, every error status and the API keys."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(described())
        return described()

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(description: dict[str, Any]) -> None:
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, defined = models_json_schema(
        [(model, "validation") for model in _HAND_READ], ref_template=_REF
    )
    for name, schema in defined["$defs"].items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, where the service asks for one.",
        }
    }
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    statuses = {*_ALWAYS, *_OF_ONE.get((method, path), ())}
    if not is_public(path):
        operation["security"] = [{}, {"key": []}]
        statuses.add("401")
    if "{" in path or path in {"/v1/search", "/v1/explain"}:
        statuses.add("404")
    if "requestBody" in operation:
        statuses |= {"408", "413", "415"}
    if path.endswith("/file"):
        statuses.add("416")
    responses = operation["responses"]
    for status in sorted(statuses):
        responses[status] = {
            "description": _ERRORS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
