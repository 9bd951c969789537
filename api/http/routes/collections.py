"""Collections of items, hidden items and saved searches."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from api.http.routes.dependencies import CurrentService, require
from api.http.schemas.collections import (
    MOST_IN_A_QUERY,
    Changed,
    CollectionList,
    CollectionSchema,
    ItemsBody,
    NewCollection,
    NewName,
    NewSearch,
    SavedSearchList,
    SavedSearchSchema,
)
from retrieval.catalog import Snapshot
from retrieval.errors import NotFoundError
from retrieval.search.query import MAX_ITEM_ID

router = APIRouter(prefix="/v1", tags=["collections"], dependencies=[Depends(require("read"))])

_WRITES = [Depends(require("write"))]

CollectionId = Annotated[int, Path(ge=1, le=MAX_ITEM_ID, description="The id of a collection.")]
SearchId = Annotated[int, Path(ge=1, le=MAX_ITEM_ID, description="The id of a saved search.")]
_Id = Annotated[int, Query(ge=1, le=MAX_ITEM_ID)]
Unwanted = Annotated[
    list[_Id],
    Query(alias="item", min_length=1, max_length=MOST_IN_A_QUERY, description="Ids of items."),
]


@router.get("/collections")
def list_collections(service: CurrentService) -> CollectionList:
    """List the collections by name."""
    with service.library.catalog.snapshot() as snapshot:
        return CollectionList(collections=[CollectionSchema.of(o) for o in snapshot.collections()])


@router.post("/collections", status_code=201, dependencies=_WRITES)
def create_collection(asked: NewCollection, service: CurrentService) -> CollectionSchema:
    """Create a collection, of some items if they are given."""
    with service.library.catalog.transaction() as transaction:
        created = transaction.create_collection(asked.name)
        transaction.collect(created, asked.items)
        return _collection(transaction, created)


@router.get("/collections/{collection_id}")
def get_collection(collection_id: CollectionId, service: CurrentService) -> CollectionSchema:
    """Describe a collection. `GET /v1/items` with a filter lists its items."""
    with service.library.catalog.snapshot() as snapshot:
        return _collection(snapshot, collection_id)


@router.patch("/collections/{collection_id}", dependencies=_WRITES)
def rename_collection(
    collection_id: CollectionId, asked: NewName, service: CurrentService
) -> CollectionSchema:
    """Give a collection another name."""
    with service.library.catalog.transaction() as transaction:
        _collection(transaction, collection_id)
        transaction.rename_collection(collection_id, asked.name)
        return _collection(transaction, collection_id)


@router.delete("/collections/{collection_id}", status_code=204, dependencies=_WRITES)
def delete_collection(collection_id: CollectionId, service: CurrentService) -> Response:
    """Delete a collection; its items stay in the library."""
    with service.library.catalog.transaction() as transaction:
        _collection(transaction, collection_id)
        transaction.delete_collection(collection_id)
    return Response(status_code=204)


@router.post("/collections/{collection_id}/items", dependencies=_WRITES)
def add_items(collection_id: CollectionId, asked: ItemsBody, service: CurrentService) -> Changed:
    """Add items at the end of a collection; those that it has stay in their places."""
    with service.library.catalog.transaction() as transaction:
        _collection(transaction, collection_id)
        return Changed(changed=transaction.collect(collection_id, asked.items))


@router.delete("/collections/{collection_id}/items", dependencies=_WRITES)
def remove_items(collection_id: CollectionId, items: Unwanted, service: CurrentService) -> Changed:
    """Take items out of a collection; they stay in the library."""
    with service.library.catalog.transaction() as transaction:
        _collection(transaction, collection_id)
        return Changed(changed=transaction.uncollect(collection_id, items))


@router.post("/hidden", dependencies=_WRITES)
def hide_items(asked: ItemsBody, service: CurrentService) -> Changed:
    """Hide items: searches and lists leave them out, unless the filter `hidden` asks for them.

    A page of a document is hidden with its passages.
    """
    return Changed(changed=service.library.hide(asked.items))


@router.delete("/hidden", dependencies=_WRITES)
def unhide_items(items: Unwanted, service: CurrentService) -> Changed:
    """Show hidden items again."""
    return Changed(changed=service.library.unhide(items))


@router.get("/searches")
def list_searches(service: CurrentService) -> SavedSearchList:
    """List the saved searches by name."""
    saved = service.library.saved_searches.all()
    return SavedSearchList(searches=[SavedSearchSchema.of(one) for one in saved])


@router.post("/searches", status_code=201, dependencies=_WRITES)
def save_search(asked: NewSearch, service: CurrentService) -> SavedSearchSchema:
    """Save a search under a name, in place of one that has it."""
    query = asked.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, include={"address", "request"}
    )
    return SavedSearchSchema.of(service.library.saved_searches.save(asked.name, query))


@router.delete("/searches/{search_id}", status_code=204, dependencies=_WRITES)
def delete_search(search_id: SearchId, service: CurrentService) -> Response:
    """Delete a saved search."""
    service.library.saved_searches.delete(search_id)
    return Response(status_code=204)


def _collection(snapshot: Snapshot, collection_id: int) -> CollectionSchema:
    for collection in snapshot.collections():
        if collection.id == collection_id:
            return CollectionSchema.of(collection)
    raise NotFoundError(f"There is no collection with the id {collection_id}.")
