"""Texts that models found in the picture or the speech of an item."""

from fastapi import APIRouter, Depends

from api.http.routes.dependencies import CurrentService, require
from api.http.routes.items import ItemId, item_in
from api.http.schemas.texts import ItemTexts

router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[Depends(require("read"))])


@router.get("/{item_id}/texts")
def get_texts(item_id: ItemId, service: CurrentService) -> ItemTexts:
    """List what models found: text in the item's picture, its caption, speech in its file."""
    with service.library.catalog.snapshot() as snapshot:
        return ItemTexts.of(snapshot.enrichments_of(item_in(snapshot, item_id)))
