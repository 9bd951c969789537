"""Items by id, and lists of items; clients never send paths of the file system."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from api.http.routes.dependencies import CurrentService, Service, require
from api.http.schemas import ItemList, ItemSchema, ListRequest
from api.http.search_body import parse_where
from retrieval.catalog import Item, Snapshot
from retrieval.errors import NotFoundError, UsageError
from retrieval.search.query import MAX_ITEM_ID

router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[Depends(require("read"))])

ItemId = Annotated[int, Path(ge=1, le=MAX_ITEM_ID, description="The id of an item.")]


def current_item(service: Service, item_id: int) -> Item:
    """Look up an item; raises NotFoundError if its file was removed or failed."""
    with service.library.catalog.snapshot() as snapshot:
        return item_in(snapshot, item_id)


def item_in(snapshot: Snapshot, item_id: int) -> Item:
    """Look up an item in a snapshot; raises NotFoundError if its file was removed or failed."""
    item = snapshot.item(item_id)
    if item is None:
        raise NotFoundError(f"There is no item {item_id}.")
    return item


@router.get("")
def list_items(asked: Annotated[ListRequest, Query()], service: CurrentService) -> ItemList:
    """List the items that can be found, in the order in which they were added, or by date."""
    where = parse_where(asked.where)
    space_id = service.engine.space.id
    with service.library.catalog.snapshot() as snapshot:
        snapshot.require_collections(where)
        if asked.order == "collection":
            if where is None or where.collection is None:
                raise UsageError("The order `collection` needs a filter with a `collection`.")
            placed = snapshot.items_of_collection(
                space_id,
                snapshot.id_of_collection(where.collection),
                where=where,
                modality=asked.modality,
                after=asked.last_id,
                limit=asked.limit,
            )
            listed = ItemList.of([item for _, item in placed], asked.limit)
            if listed.next_cursor is not None:
                listed.next_cursor = str(placed[-1][0])
            return listed
        if asked.by_date:
            items = snapshot.items_by_date(
                space_id,
                where=where,
                modality=asked.modality,
                after=asked.last_date_and_id,
                limit=asked.limit,
                oldest_first=asked.order == "date-asc",
            )
        else:
            items = snapshot.items(
                space_id,
                where=where,
                modality=asked.modality,
                after=asked.last_id,
                limit=asked.limit,
                newest_first=asked.order == "newest",
            )
    return ItemList.of(items, asked.limit, by_date=asked.by_date)


@router.get("/{item_id}")
def get_item(item_id: ItemId, service: CurrentService) -> ItemSchema:
    """Describe an item, with the metadata of its file."""
    with service.library.catalog.snapshot() as snapshot:
        item = item_in(snapshot, item_id)
        return ItemSchema.of(item, snapshot.details(item))
