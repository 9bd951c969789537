"""Validate JSON that FastAPI does not parse: hand-parsed bodies and JSON parameters."""

from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)


def parse_json(model: type[_Model], content: str | bytes, place: str) -> _Model:
    """Parse JSON strictly as a model; `"5"` is not accepted as a number.

    place: name of the value in error messages. Raises RequestValidationError.
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
    """Build the error of an invalid value in a request."""
    return RequestValidationError([{"loc": (place,), "msg": message, "type": "value_error"}])
