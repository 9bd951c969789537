"""Explain why a text and an item match."""

import io
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from api.drawing.heat_map import draw_heat_map
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import current_item
from api.http.schemas import ExplainRequest, ExplanationSchema
from retrieval.catalog import Item
from retrieval.errors import UsageError
from retrieval.rerankers.base import ExplainableReranker
from retrieval.rerankers.explanation import Explanation
from retrieval.rerankers.registry import AUTO
from retrieval.search.found_text import FoundText, found_text

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.get(
    "/explain",
    response_model=ExplanationSchema,
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def explain(
    asked: Annotated[ExplainRequest, Query()], service: CurrentService
) -> ExplanationSchema | Response:
    """Explain which words of a text contribute to its match with an item, and where each looked."""
    if not asked.text.strip():
        raise UsageError("The text is empty. Describe in a few words what the image may show.")
    item = await run_in_threadpool(current_item, service, asked.item)
    image = await service.decoding.run(lambda: service.files.scene(item))
    explanation = await service.on_inference_thread(lambda: _explain(service, asked.text, image))
    found = await run_in_threadpool(_found, service, item, asked.text)
    if asked.format == "json":
        return ExplanationSchema.of(explanation, found)
    picture = await service.decoding.run(lambda: _png(explanation, image, found))
    return Response(picture, media_type="image/png")


def _explain(service: Service, text: str, image: Image.Image) -> Explanation:
    """Explain by the reranker of the service, or by the shipped one where that cannot."""
    name = service.settings.rerank
    if not isinstance(service.engine.reranker(name), ExplainableReranker):
        name = AUTO
    return service.engine.explain(text, image, name)


def _found(service: Service, item: Item, text: str) -> list[FoundText]:
    """Find the lines of the item's picture that hold words of a text."""
    with service.library.catalog.snapshot() as snapshot:
        found = snapshot.enrichments_of(item)
    return found_text(text, (one for one in found if one.task.is_of_pictures))


def _png(explanation: Explanation, image: Image.Image, found: list[FoundText]) -> bytes:
    stream = io.BytesIO()
    draw_heat_map(explanation, image, found).save(stream, "PNG")
    return stream.getvalue()
