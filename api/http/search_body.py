"""Parse JSON that FastAPI does not: the body of a search, alone or in a form with files."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from PIL import Image
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from api.http.query_images import MAX_IMAGES, Pixels
from api.http.query_sounds import Samples
from api.http.schemas import SearchRequest
from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.search.query import MAX_PARTS, AudioPart, ImagePart, ItemPart, TextPart

JSON = "application/json"
FORM = "multipart/form-data"
_MAX_FIELD = 64 * 1024 * 1024
_LARGE = 64 * 1024
"""Size in bytes from which JSON is parsed on another thread than the event loop."""

_NAMES = {"image": "image", "audio": "sound"}
"""What the files of a field are called."""

NamedFile = tuple[str, str | bytes]
"""Its name for errors, and its content, in base64 if it is a text."""

_Model = TypeVar("_Model", bound=BaseModel)

_EXAMPLES: dict[str, Any] = {
    "text": {"summary": "By a text", "value": {"text": "two dogs fighting over a stick", "k": 5}},
    "parts": {
        "summary": "A beach without people, similar to item 12",
        "value": {
            "parts": [
                {"text": "a beach"},
                {"text": "people", "weight": -0.5},
                {"item": 12, "weight": 0.5},
            ]
        },
    },
    "filter": {
        "summary": "Videos of one summer, collapsed by file",
        "value": {
            "text": "children running",
            "where": {
                "kind": ["video"],
                "taken_at": {"since": "2024-06-01", "before": "2024-09-01"},
            },
            "group_by_file": True,
            "min_relevance": 0.5,
        },
    },
}

BODY: dict[str, Any] = {
    "required": True,
    "content": {
        JSON: {"schema": {"$ref": "#/components/schemas/SearchRequest"}, "examples": _EXAMPLES},
        FORM: {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "request": {"$ref": "#/components/schemas/SearchRequest"},
                    "image": {
                        "type": "array",
                        "maxItems": MAX_IMAGES,
                        "items": {"type": "string", "format": "binary"},
                        "description": "Image files, each a part of weight 1.",
                    },
                    "audio": {
                        "type": "array",
                        "maxItems": MAX_IMAGES,
                        "items": {"type": "string", "format": "binary"},
                        "description": "Sound files, each a part of weight 1.",
                    },
                },
            },
            "encoding": {"request": {"contentType": JSON}},
        },
    },
}
"""OpenAPI description of the body."""


@dataclass(frozen=True)
class SearchBody:
    """A search request, its parts and its uploaded files.

    parts: field (`text`, `image`, `audio` or `item`), value and weight of each, shorthands first,
    then the files that were uploaded. uploaded: number of these.
    """

    request: SearchRequest
    parts: list[tuple[str, Any, float]]
    uploaded: int = 0

    @property
    def images(self) -> list[NamedFile]:
        """List name and content of the image files of the parts; raises UsageError for too many."""
        return self._files("image")

    @property
    def sounds(self) -> list[NamedFile]:
        """List name and content of the sound files of the parts; raises UsageError for too many."""
        return self._files("audio")

    def _files(self, field: str) -> list[NamedFile]:
        given = len(self.parts) - self.uploaded
        files = [
            (f"The {_NAMES[field]} of part {number}", value)
            for number, (kind, value, _) in enumerate(self.parts[:given], start=1)
            if kind == field
        ]
        uploads = [value for kind, value, _ in self.parts[given:] if kind == field]
        files += [
            (f"The uploaded {_NAMES[field]} {number}", value)
            for number, value in enumerate(uploads, start=1)
        ]
        if len(files) > MAX_IMAGES or len(self.parts) > MAX_PARTS:
            raise UsageError(
                f"A query has at most {MAX_PARTS} parts, {MAX_IMAGES} of them {_NAMES[field]}s."
            )
        return files

    def query_parts(
        self, images: Sequence[Pixels], sounds: Sequence[Samples] = ()
    ) -> tuple[TextPart | ImagePart | AudioPart | ItemPart, ...]:
        """Build the parts of the query.

        images, sounds: decoded, in the order of `images` and `sounds`.
        """
        shown, heard = iter(images), iter(sounds)
        parts: list[TextPart | ImagePart | AudioPart | ItemPart] = []
        for kind, value, weight in self.parts:
            match kind:
                case "text":
                    parts.append(TextPart(value, weight))
                case "item":
                    parts.append(ItemPart(value, weight))
                case "audio":
                    parts.append(AudioPart(next(heard), weight))
                case _:
                    parts.append(ImagePart(Image.fromarray(next(shown)), weight))
        return tuple(parts)

    @property
    def query(self) -> str | None:
        """Describe the query: its text if it has no other part, else all parts with signs."""
        if len(self.parts) == 1 and self.parts[0][2] == 1:
            kind, value, _ = self.parts[0]
            return str(value) if kind == "text" else None
        names = {"text": '"{}"', "item": "item {}", **_NAMES}
        spelled = [(weight, names[kind].format(value)) for kind, value, weight in self.parts]
        words = " ".join(
            f"{'-' if weight < 0 else '+'} {'' if abs(weight) == 1 else f'{abs(weight):g} '}{name}"
            for weight, name in spelled
        )
        return words.removeprefix("+ ") or None


async def read_search_body(request: Request) -> SearchBody:
    """Parse and validate the body of a search.

    Raises RequestValidationError for an invalid body, HTTPException with status 415 for an
    unsupported media type.
    """
    if _media_type(request) == FORM:
        # The files of a form are closed and deleted when its context ends.
        async with request.form(
            max_files=2 * MAX_IMAGES + 1, max_fields=2, max_part_size=_MAX_FIELD
        ) as form:
            content, uploads = await _read_form(form)
    else:
        return search_body(await read_json_body(request, SearchRequest, f"{JSON} or {FORM}"))
    return search_body(await _parsed(SearchRequest, content, "request"), uploads)


async def read_json_body(request: Request, model: type[_Model], kinds: str = JSON) -> _Model:
    """Parse and validate a JSON body; kinds: the media types that are named in the error.

    Raises as `read_search_body`.
    """
    kind = _media_type(request)
    content = await request.body()
    if content and kind != JSON:
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send {kinds}, not {kind or 'nothing'}."
        )
    return await _parsed(model, content, "body")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _parsed(model: type[_Model], content: str | bytes, place: str) -> _Model:
    if len(content) < _LARGE:
        return parse_json(model, content, place)
    return await run_in_threadpool(parse_json, model, content, place)


def search_body(asked: SearchRequest, uploads: Sequence[tuple[str, bytes]] = ()) -> SearchBody:
    """List the parts of a request. uploads: field and content of uploaded files."""
    parts = [
        (kind, value, getattr(part, "weight", 1.0))
        for part in (asked, *asked.parts)
        for kind in ("text", "image", "audio", "item")
        if (value := getattr(part, kind)) is not None
    ]
    parts += [(field, content, 1.0) for field, content in uploads]
    return SearchBody(asked, parts, len(uploads))


def parse_json(model: type[_Model], content: str | bytes, place: str) -> _Model:
    """Parse JSON strictly as a model; `"5"` is not accepted as a number.

    place: name of the value in error messages. Raises RequestValidationError.
    """
    if not content:
        raise _invalid(place, "it is empty")
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise RequestValidationError(
            [
                {"loc": (place, *item["loc"]), "msg": item["msg"], "type": item["type"]}
                for item in error.errors(include_url=False, include_context=False)
            ]
        ) from error


def parse_where(where: str | None) -> Filter | None:
    """Parse the filter of an address, as `parse_json`; None without one."""
    return None if where is None else parse_json(Filter, where, "where")


def _invalid(place: str, message: str) -> RequestValidationError:
    """Build the error of an invalid value in a request."""
    return RequestValidationError([{"loc": (place,), "msg": message, "type": "value_error"}])


async def _read_form(form: FormData) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Read the JSON of a form and its files, each with the name of its field."""
    if unknown := set(form) - {"request", *_NAMES}:
        raise _invalid("body", f"there is no field {min(unknown)!r}; use request, image and audio")
    asked = form.getlist("request")
    if len(asked) > 1:
        raise _invalid("request", "give it once")
    uploads = []
    for field in _NAMES:
        for value in form.getlist(field):
            if not isinstance(value, UploadFile):
                raise _invalid(field, "send it as a file, with a file name")
            uploads.append((field, await value.read()))
    content = b"{}"
    for value in asked:
        content = value.encode() if isinstance(value, str) else await value.read()
    return content, uploads
