"""Checking JSON that FastAPI does not see: bodies read by hand, and JSON inside of parameters."""

from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)


def parse_json(model: type[_Model], content: str | bytes, place: str) -> _Model:
    """Read JSON as a model; types must be right, `"5"` is no number.

    place: what messages call it. Raises RequestValidationError.
    """
    if not content:
        raise invalid(place, "it is empty")
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise RequestValidationError(
            [
                {"loc": (place, *item["loc"]), "msg": item["msg"], "type": item["type"]}
                for item in error.errors(include_url=False, include_context=False)
            ]
        ) from error


def invalid(place: str, message: str) -> RequestValidationError:
    """Say that something in a request is not as described."""
    return RequestValidationError([{"loc": (place,), "msg": message, "type": "value_error"}])
