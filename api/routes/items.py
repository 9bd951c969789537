"""Items and their thumbnails, by id only: a client never names a path of the file system."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response

from api.routes.dependencies import CurrentService, Service, require
from api.schemas import ItemSchema
from api.thumbnails import THUMBNAIL_PIXELS, thumbnail
from retrieval.catalog import Item
from retrieval.errors import NotFoundError

router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[Depends(require("read"))])

ItemId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("/{item_id}")
def get_item(item_id: ItemId, service: CurrentService) -> ItemSchema:
    """Describe one item."""
    item = _item(service, item_id)
    with service.library.catalog.snapshot() as snapshot:
        return ItemSchema.of(item, snapshot.details(item))


@router.get(
    "/{item_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "Not modified"}},
)
def get_thumbnail(
    item_id: ItemId,
    service: CurrentService,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Show one item small: a JPEG with a longer side of at most 320 pixels."""
    item = _item(service, item_id)
    tag = f'"{item.picture_key}-{THUMBNAIL_PIXELS}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if if_none_match and tag in (part.strip() for part in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    try:
        content = thumbnail(service.library, item)
    except OSError as error:
        raise NotFoundError(f"The file of item {item_id} cannot be opened any more.") from error
    return Response(content, media_type="image/jpeg", headers=headers)


def _item(service: Service, item_id: int) -> Item:
    with service.library.catalog.snapshot() as snapshot:
        item = snapshot.item(item_id)
    if item is None:
        raise NotFoundError(f"There is no item {item_id}.")
    return item
