"""Parse the body of a search: JSON, or a form with JSON and image files."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from api.http.query_images import MAX_IMAGES, read_query_image
from api.http.schemas import SearchRequest
from api.http.validation import invalid, parse_json
from retrieval.errors import UsageError
from retrieval.search.query import MAX_PARTS, ImagePart, ItemPart, TextPart

JSON = "application/json"
FORM = "multipart/form-data"
_MAX_FIELD = 64 * 1024 * 1024
_LARGE = 64 * 1024
"""Size in bytes from which JSON is parsed on another thread than the event loop."""

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
                },
            },
            "encoding": {"request": {"contentType": JSON}},
        },
    },
}
"""OpenAPI description of the body."""


@dataclass(frozen=True)
class SearchBody:
    """A search request and its uploaded image files."""

    request: SearchRequest
    uploads: tuple[bytes, ...] = ()

    @property
    def has_images(self) -> bool:
        """Whether there are images to decode."""
        return bool(self.uploads) or any(part.image for part in self.request.all_parts)

    def parts(self, max_pixels: float) -> tuple[TextPart | ImagePart | ItemPart, ...]:
        """Decode the query parts. max_pixels: maximum size of an image, in megapixels.

        Raises UsageError for too many parts, and as `read_query_image`.
        """
        asked = self.request.all_parts
        images = len(self.uploads) + sum(part.image is not None for part in asked)
        if images > MAX_IMAGES or len(asked) + len(self.uploads) > MAX_PARTS:
            raise UsageError(f"A query has at most {MAX_PARTS} parts, {MAX_IMAGES} of them images.")
        parts: list[TextPart | ImagePart | ItemPart] = []
        for number, part in enumerate(asked, start=1):
            if part.text is not None:
                parts.append(TextPart(part.text, part.weight))
            elif part.item is not None:
                parts.append(ItemPart(part.item, part.weight))
            elif part.image is not None:
                image = read_query_image(part.image, max_pixels, f"The image of part {number}")
                parts.append(ImagePart(image, part.weight))
        for number, upload in enumerate(self.uploads, start=1):
            name = f"The uploaded image {number}"
            parts.append(ImagePart(read_query_image(upload, max_pixels, name)))
        return tuple(parts)

    @property
    def query(self) -> str | None:
        """Describe the query: its text if it has no other part, else all parts with signs."""
        asked = [*self.request.all_parts]
        if not self.uploads and len(asked) == 1 and asked[0].weight == 1:
            return asked[0].text
        spelled = [(part.weight, _spelled(part.text, part.item)) for part in asked]
        spelled += [(1.0, "image") for _ in self.uploads]
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
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        # The files of a form are closed and deleted when its context ends.
        async with request.form(
            max_files=MAX_IMAGES + 1, max_fields=2, max_part_size=_MAX_FIELD
        ) as form:
            return await _of_form(form)
    content = await request.body()
    if kind == JSON or not content:
        return SearchBody(await _parsed(content, "body"))
    raise HTTPException(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send {JSON} or {FORM}, not {kind or 'nothing'}."
    )


async def _of_form(form: FormData) -> SearchBody:
    if unknown := set(form) - {"request", "image"}:
        raise invalid("body", f"there is no field {min(unknown)!r}; use request and image")
    asked = form.getlist("request")
    if len(asked) > 1:
        raise invalid("request", "give it once")
    uploads = []
    for value in form.getlist("image"):
        if not isinstance(value, UploadFile):
            raise invalid("image", "send it as a file, with a file name")
        uploads.append(await value.read())
    content = await _content(asked[0]) if asked else b"{}"
    return SearchBody(await _parsed(content, "request"), tuple(uploads))


async def _content(value: UploadFile | str) -> bytes:
    return value.encode() if isinstance(value, str) else await value.read()


async def _parsed(content: bytes, place: str) -> SearchRequest:
    if len(content) < _LARGE:
        return parse_json(SearchRequest, content, place)
    return await run_in_threadpool(parse_json, SearchRequest, content, place)


def _spelled(text: str | None, item: int | None) -> str:
    if text is not None:
        return f'"{text}"'
    return "image" if item is None else f"item {item}"
