"""Items by id, and lists of items; clients never send paths of the file system."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from api.http.routes.dependencies import CurrentService, Service, require
from api.http.schemas import ItemList, ItemSchema, ListRequest, Neighbours, NeighboursRequest
from api.http.search_body import parse_where
from retrieval.catalog import Item, Snapshot
from retrieval.errors import NotFoundError, UsageError
from retrieval.search.item_order import Order
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
    """List the items that can be found, in the order of their addition, by date or by name."""
    where = parse_where(asked.where)
    engine = service.engine_for(asked.modality) if asked.modality else service.engine
    space_id = engine.space.id
    if asked.offset and not asked.order.can_skip:
        raise UsageError(f"`offset` is not for the order {asked.order}: follow `next_cursor`.")
    after = None if asked.order is Order.NAME else asked.after
    if asked.offset:
        after = engine.skip_items(
            asked.offset,
            order=asked.order,
            modality=asked.modality,
            where=where,
            after=after,
        )
    with service.library.catalog.snapshot() as snapshot:
        snapshot.require_collections(where)
        if asked.order is Order.COLLECTION:
            if where is None or where.collection is None:
                raise UsageError("The order `collection` needs a filter with a `collection`.")
            placed = snapshot.items_of_collection(
                space_id,
                snapshot.id_of_collection(where.collection),
                where=where,
                modality=asked.modality,
                after=after.item_id if after else 0,
                limit=asked.limit,
            )
            listed = ItemList.of([item for _, item in placed], asked.limit)
            if listed.next_cursor is not None:
                listed.next_cursor = str(placed[-1][0])
            return listed
        if asked.order is Order.NAME:
            items = snapshot.items_by_name(
                space_id,
                where=where,
                modality=asked.modality,
                after=asked.last_path_and_id,
                limit=asked.limit,
            )
        elif asked.order.is_by_date:
            items = snapshot.items_by_date(
                space_id,
                where=where,
                modality=asked.modality,
                after=(after.date, after.item_id) if after else None,
                limit=asked.limit,
                oldest_first=asked.order is Order.DATE_ASC,
            )
        else:
            items = snapshot.items(
                space_id,
                where=where,
                modality=asked.modality,
                after=after.item_id if after else 0,
                limit=asked.limit,
                newest_first=asked.order is Order.NEWEST,
            )
    return ItemList.of(items, asked.limit, asked.order)


@router.get("/{item_id}")
def get_item(item_id: ItemId, service: CurrentService) -> ItemSchema:
    """Describe an item, with the metadata of its file."""
    with service.library.catalog.snapshot() as snapshot:
        item = item_in(snapshot, item_id)
        return ItemSchema.of(item, snapshot.details(item))


@router.get("/{item_id}/neighbours")
def get_neighbours(
    item_id: ItemId, asked: Annotated[NeighboursRequest, Query()], service: CurrentService
) -> Neighbours:
    """List the chunks, pages or frames that come before and after an item in its file."""
    with service.library.catalog.snapshot() as snapshot:
        item = item_in(snapshot, item_id)
        space_id = service.engine_for(item.modality).space.id
        return Neighbours.of(
            snapshot.neighbours(space_id, item, before=asked.before),
            snapshot.neighbours(space_id, item, after=asked.after),
        )
