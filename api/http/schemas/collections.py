"""Schemas of collections, hidden items, saved searches and archives."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api.http.schemas.search import SearchRequest
from retrieval.catalog import Collection, SavedSearch
from retrieval.catalog.collections import LONGEST_NAME
from retrieval.search.query import MAX_ITEM_ID

MOST_ITEMS = 10_000
"""Items of one request."""
MOST_IN_A_QUERY = 1000
LONGEST_ADDRESS = 8000
LONGEST_SEARCH = 100_000
"""Characters of a saved request as JSON: all saved searches are listed at once."""

Name = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_NAME, description="One line; compared in any case."),
]
_ItemId = Annotated[int, Field(ge=1, le=MAX_ITEM_ID)]
ItemIds = Annotated[
    list[_ItemId], Field(min_length=1, max_length=MOST_ITEMS, description="Ids of items.")
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ItemsBody(_Body):
    """Items to do something with."""

    items: ItemIds


class NewCollection(_Body):
    """A collection to create, and its first items."""

    name: Name
    items: Annotated[list[_ItemId], Field(max_length=MOST_ITEMS, description="Ids of items.")] = []


class NewName(_Body):
    """Another name of a collection."""

    name: Name


class CollectionSchema(BaseModel):
    """A named collection of items."""

    id: int
    name: str
    created_at: datetime
    items: Annotated[int, Field(description="Number of items that it shows.")]

    @classmethod
    def of(cls, collection: Collection) -> Self:
        """Convert a collection of the catalog."""
        return cls(
            id=collection.id,
            name=collection.name,
            created_at=datetime.fromtimestamp(collection.created_at, UTC),
            items=collection.items,
        )


class CollectionList(BaseModel):
    """All collections, by name."""

    collections: list[CollectionSchema]


class Changed(BaseModel):
    """What a request changed."""

    changed: Annotated[int, Field(description="Number of items that were not so before.")]


class NewSearch(_Body):
    """A search to save: the address of the page, or the body of a search."""

    name: Name
    address: Annotated[
        str | None,
        Field(
            max_length=LONGEST_ADDRESS,
            description="What follows the `?` in the page's address, such as `q=dog&kind=video`.",
        ),
    ] = None
    request: SearchRequest | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.address is None) == (self.request is None):
            raise ValueError("give either `address` or `request`")
        if self.request is not None:
            size = len(self.request.model_dump_json(by_alias=True, exclude_defaults=True))
            if size > LONGEST_SEARCH:
                raise ValueError(f"a saved `request` has at most {LONGEST_SEARCH:,} characters")
        return self


class SavedSearchSchema(BaseModel):
    """A search with a name."""

    id: int
    name: str
    created_at: datetime
    address: str | None
    request: SearchRequest | None

    @classmethod
    def of(cls, saved: SavedSearch) -> Self:
        """Convert a saved search of the catalog.

        What another version or program saved, and this one cannot ask, has neither `address` nor
        `request`: it hides no others, and can be deleted.
        """
        query = saved.query if isinstance(saved.query, dict) else {}
        address, request = query.get("address"), None
        with suppress(ValidationError):
            if query.get("request") is not None:
                request = SearchRequest.model_validate(query["request"])
        return cls(
            id=saved.id,
            name=saved.name,
            created_at=datetime.fromtimestamp(saved.created_at, UTC),
            address=address if isinstance(address, str) else None,
            request=request,
        )


class SavedSearchList(BaseModel):
    """All saved searches, by name."""

    searches: list[SavedSearchSchema]


class ArchiveRequest(_Body):
    """Files to download as one archive: those of some items, or of a collection."""

    items: Annotated[
        list[_ItemId] | None,
        Field(min_length=1, max_length=MOST_ITEMS, description="Ids of items."),
    ] = None
    collection: Annotated[Name | None, Field(description="Name of a collection.")] = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.items is None) == (self.collection is None):
            raise ValueError("give either `items` or `collection`")
        return self


class ArchiveSchema(BaseModel):
    """An archive that is made while it is downloaded."""

    url: Annotated[str, Field(description="Where it is; needs no API key.")]
    name: Annotated[str, Field(description="Name of the file.")]
    files: Annotated[int, Field(description="Number of files in it.")]
    bytes: Annotated[int, Field(description="Size of these files.")]
    seconds: Annotated[int, Field(description="How long the URL can be used.")]
