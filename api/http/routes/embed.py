"""Embed texts and images."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends
from PIL import Image
from starlette.concurrency import run_in_threadpool

from api.http.routes.dependencies import CurrentService, require
from api.http.schemas.embeddings import Embeddings, EmbedRequest, rounded
from retrieval.errors import UnreadableFileError
from retrieval.media.images import read_image

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.post("/embed")
async def embed(request: EmbedRequest, service: CurrentService) -> Embeddings:
    """Embed texts and images with the encoder of the library."""
    max_pixels = int(service.settings.max_pixels * 1e6)
    images = await run_in_threadpool(_decoded, request.images, max_pixels)
    texts, pictures = await service.on_inference_thread(
        lambda: (
            service.engine.encode_texts(request.texts),
            service.engine.encode_images(images),
        )
    )
    space = service.engine.space
    return Embeddings(
        space=space.id,
        dimension=space.dimension,
        texts=rounded(texts),
        images=rounded(pictures),
    )


def _decoded(contents: Sequence[bytes], max_pixels: int) -> list[Image.Image]:
    images = []
    for position, content in enumerate(contents):
        try:
            images.append(read_image(content, max_pixels=max_pixels))
        except UnreadableFileError as error:
            raise UnreadableFileError(f"images.{position}: {error}.") from error
    return images
