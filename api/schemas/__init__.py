"""What goes over the wire and into `--json`, as pydantic models: one subject a module."""

from api.schemas.explain import ExplainRequest, ExplanationSchema
from api.schemas.health import Health
from api.schemas.items import ItemList, ItemSchema, ListRequest, ThumbnailRequest
from api.schemas.problems import Problem
from api.schemas.search import (
    HitSchema,
    PartSchema,
    SearchAnswer,
    SearchRequest,
    ServedAnswer,
    SimilarRequest,
)
from api.schemas.text import valid_text

__all__ = [
    "ExplainRequest",
    "ExplanationSchema",
    "Health",
    "HitSchema",
    "ItemList",
    "ItemSchema",
    "ListRequest",
    "PartSchema",
    "Problem",
    "SearchAnswer",
    "SearchRequest",
    "ServedAnswer",
    "SimilarRequest",
    "ThumbnailRequest",
    "valid_text",
]
