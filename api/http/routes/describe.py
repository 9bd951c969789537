"""Describe images and answer questions about them, where the service has a model for it."""

from fastapi import APIRouter, Depends
from PIL import Image
from starlette.concurrency import run_in_threadpool

from api.http.captioning import Captioning, shown_name
from api.http.query_images import read_query_images
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import current_item
from api.http.schemas.descriptions import AskRequest, DescribeRequest, GeneratedText
from retrieval.errors import NotFoundError
from retrieval.media.images import LEAST_SIDE
from retrieval.recognition.captions.captioner import Captioner

router = APIRouter(prefix="/v1", tags=["items"], dependencies=[Depends(require("read"))])


@router.post("/describe")
async def describe(request: DescribeRequest, service: CurrentService) -> GeneratedText:
    """Describe an image in words. Needs a service that was started with `--captions`."""
    captioning = _captioning(service)
    image = await _image(request, service)

    def write(captioner: Captioner) -> GeneratedText:
        [text] = captioner.caption([image], request.prompt, new_tokens=request.max_tokens)
        return GeneratedText(model=shown_name(captioner), text=text)

    return await captioning.run(write)


@router.post("/ask")
async def ask(request: AskRequest, service: CurrentService) -> GeneratedText:
    """Answer a question about an image. Needs a service that was started with `--captions`."""
    captioning = _captioning(service)
    image = await _image(request, service)

    def write(captioner: Captioner) -> GeneratedText:
        text = captioner.answer(image, request.question, new_tokens=request.max_tokens)
        return GeneratedText(model=shown_name(captioner), text=text)

    return await captioning.run(write)


def _captioning(service: Service) -> Captioning:
    if service.captioning is None:
        raise NotFoundError(
            "This service has no image-to-text model: `mmsearch serve --captions NAME_OR_DIR` "
            "gives it one."
        )
    return service.captioning


async def _image(request: DescribeRequest | AskRequest, service: Service) -> Image.Image:
    if request.item is not None:
        item = await run_in_threadpool(current_item, service, request.item)
        return await service.decoding.run(lambda: service.files.scene(item))
    named = [("image", request.image or b"")]
    [pixels] = await service.decoding.run_apart(
        read_query_images, named, service.settings.max_pixels, LEAST_SIDE
    )
    return Image.fromarray(pixels)
