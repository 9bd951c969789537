"""Embed texts and images."""

from fastapi import APIRouter, Depends
from PIL import Image

from api.http.query_images import read_query_images
from api.http.routes.dependencies import CurrentService, require
from api.http.schemas.embeddings import Embeddings, EmbedRequest, rounded

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.post("/embed")
async def embed(request: EmbedRequest, service: CurrentService) -> Embeddings:
    """Embed texts and images with the encoder of the library."""
    named = [(f"images.{number}", content) for number, content in enumerate(request.images)]
    images: list[Image.Image] = []
    if named:
        pixels = await service.decoding.run_apart(
            read_query_images, named, service.settings.max_pixels
        )
        images = [Image.fromarray(one) for one in pixels]
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
