"""Pydantic models of the HTTP API and of `--json`, one module per subject."""

from api.http.schemas.explain import ExplainRequest, ExplanationSchema
from api.http.schemas.facets import FacetsRequest, FacetsSchema
from api.http.schemas.health import Health
from api.http.schemas.items import (
    FileLink,
    FileRequest,
    ItemList,
    ItemSchema,
    ListRequest,
    Neighbours,
    NeighboursRequest,
    ThumbnailRequest,
)
from api.http.schemas.map_points import MapPoints, MapRequest
from api.http.schemas.problems import Problem
from api.http.schemas.search import (
    HitSchema,
    PartSchema,
    SearchAnswer,
    SearchRequest,
    ServedAnswer,
    SimilarRequest,
)
from api.http.schemas.texts import FoundTextSchema, ItemTexts, SegmentSchema
from retrieval.files import valid_text

__all__ = [
    "ExplainRequest",
    "ExplanationSchema",
    "FacetsRequest",
    "FacetsSchema",
    "FileLink",
    "FileRequest",
    "FoundTextSchema",
    "Health",
    "HitSchema",
    "ItemList",
    "ItemSchema",
    "ItemTexts",
    "ListRequest",
    "MapPoints",
    "MapRequest",
    "Neighbours",
    "NeighboursRequest",
    "PartSchema",
    "Problem",
    "SearchAnswer",
    "SearchRequest",
    "SegmentSchema",
    "ServedAnswer",
    "SimilarRequest",
    "ThumbnailRequest",
    "valid_text",
]
