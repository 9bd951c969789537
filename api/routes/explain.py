"""Explaining why a text and an item match."""

import io
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from api.heat_map import draw_heat_map
from api.routes.dependencies import CurrentService, Service, require
from api.schemas import ExplainRequest, ExplanationSchema
from retrieval.errors import NotFoundError, UnreadableFileError, UsageError
from retrieval.fusion.explanation import Explanation
from retrieval.pictures import read_picture

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.get(
    "/explain",
    response_model=ExplanationSchema,
    responses={200: {"content": {"image/png": {}}}},
)
async def explain(
    request: Annotated[ExplainRequest, Query()], service: CurrentService
) -> ExplanationSchema | Response:
    """Tell which words of a text carry its match with an item, and where each looked."""
    if not request.text.strip():
        raise UsageError("The text is empty. Say in a few words what the image may show.")
    image = await run_in_threadpool(_image, service, request.item)
    explanation = await service.on_inference_thread(
        lambda: service.engine.explain(request.text, image)
    )
    if request.format == "json":
        return ExplanationSchema.of(explanation)
    return Response(await run_in_threadpool(_png, explanation, image), media_type="image/png")


def _image(service: Service, item_id: int) -> Image.Image:
    with service.library.catalog.snapshot() as snapshot:
        item = snapshot.item(item_id)
    if item is None:
        raise NotFoundError(f"There is no item {item_id}.")
    try:
        return read_picture(item)
    except OSError as error:
        raise NotFoundError(f"The file of item {item_id} cannot be opened any more.") from error
    except UnreadableFileError as error:
        raise NotFoundError(f"The file of item {item_id} cannot be read: {error}.") from error


def _png(explanation: Explanation, image: Image.Image) -> bytes:
    stream = io.BytesIO()
    draw_heat_map(explanation, image).save(stream, "PNG")
    return stream.getvalue()
