import pytest
from pydantic import ValidationError

from api.http.schemas.collections import (
    MOST_ITEMS,
    ArchiveRequest,
    CollectionSchema,
    NewSearch,
    SavedSearchSchema,
)
from retrieval.catalog import Collection, SavedSearch


def test_times_are_told_with_their_zone():
    told = CollectionSchema.of(Collection(3, "Summer", 1_560_000_000, 7)).model_dump(mode="json")
    assert told == {"id": 3, "name": "Summer", "created_at": "2019-06-08T13:20:00Z", "items": 7}


@pytest.mark.parametrize("given", [{}, {"address": "q=a", "request": {"text": "a"}}])
def test_a_saved_search_is_an_address_or_a_request(given):
    with pytest.raises(ValidationError):
        NewSearch.model_validate({"name": "Dogs", **given})


def test_a_request_is_saved_as_it_can_be_asked_again():
    request = {"text": "a dog", "where": {"not": {"camera": "x"}}}
    saved = SavedSearch(1, "Dogs", {"request": request}, 0)
    told = SavedSearchSchema.of(saved)
    assert told.address is None
    assert told.request is not None
    dumped = told.request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert dumped == request


@pytest.mark.parametrize(
    "given", [{}, {"items": []}, {"items": [0]}, {"items": [1] * (MOST_ITEMS + 1)}]
)
def test_an_archive_is_of_some_items_or_of_a_collection(given):
    with pytest.raises(ValidationError):
        ArchiveRequest.model_validate(given)
