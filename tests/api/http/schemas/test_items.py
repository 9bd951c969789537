"""Items as JSON: names that are not text, addresses of thumbnails, dates."""

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.schemas.items import ItemList, ItemSchema, thumbnail_url, valid_text
from retrieval.catalog import FileDetails, Item
from retrieval.errors import DamagedLibraryError
from retrieval.media import MediaKind, Metadata, Modality

ITEM = Item(
    7, "/photos/a.jpg", MediaKind.IMAGE, Modality.IMAGE, "c0ffee", 10, 20, width=6, height=4
)


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_any_file_name_can_be_sent_and_text_stays_itself(name):
    sent = valid_text(os.fsdecode(name))
    assert json.loads(json.dumps(sent).encode()) == sent
    sent.encode()  # a lone surrogate would raise
    try:
        assert sent == name.decode()
    except UnicodeDecodeError:
        assert "\\x" in sent


@given(st.text(min_size=1, max_size=20) | st.from_regex(r"[\w.-]{1,20}", fullmatch=True))
def test_an_address_of_a_thumbnail_leads_to_its_version(part):
    """A part that could lead elsewhere is refused; no other ends the address or adds to it."""
    if re.fullmatch(r"[\w.-]+", part, re.ASCII) is None:
        with pytest.raises(DamagedLibraryError):
            thumbnail_url(replace(ITEM, part=part))
        return
    address = urlsplit(thumbnail_url(replace(ITEM, part=part)))
    assert address.path == "/v1/items/7/thumbnail"
    assert parse_qs(address.query) == {"size": ["320"], "v": [f"c0ffee-{part}"]}
    assert not address.fragment


def test_a_text_has_no_thumbnail():
    assert thumbnail_url(replace(ITEM, modality=Modality.TEXT, path="/a.txt")) is None


def test_a_page_that_is_not_full_is_the_last():
    items = [replace(ITEM, id=number) for number in (3, 5, 8)]
    assert ItemList.of(items, 3).next_cursor == "8"
    assert ItemList.of(items, 4).next_cursor is None
    assert ItemList.of([], 3) == ItemList(items=[], next_cursor=None)
    page = ItemList.of(items, 3)
    assert ItemList.model_validate_json(page.model_dump_json()) == page
    assert [(item.item_id, item.bytes) for item in page.items] == [(3, 10), (5, 10), (8, 10)]


@pytest.mark.parametrize(
    ("seconds", "moment"),
    [
        (None, None),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (2**62, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (-(2**62), datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_dates_that_only_file_systems_know_are_clipped(seconds, moment):
    details = FileDetails(Metadata(), seconds, size=10, annotations=[], notes=[])
    schema = ItemSchema.of(ITEM, details)
    assert schema.taken_at == moment
    assert ItemSchema.model_validate_json(schema.model_dump_json()) == schema
