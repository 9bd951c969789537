"""Hits of a library and of a service, as texts with metadata."""

import json
from pathlib import Path

import pytest

from api.client import Client
from api.integrations.source import close_opened, find, name_of, open_source
from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.library import Library

pytestmark = pytest.mark.slow


def test_hits_of_every_source_are_the_same(source, found_library):
    opened = open_source(source)
    hits = find(opened, "strudel with apples", 4, {"rerank": "none"})
    close_opened(source, opened)
    expected = found_library.search("strudel with apples", k=4, modality="any", rerank="none")
    assert [hit.id for hit in hits] == [str(hit.item.id) for hit in expected.hits]
    [passage] = [hit for hit in hits if hit.metadata["modality"] == "text"]
    assert "six apples" in passage.text
    assert passage.picture is None
    pictures = [hit for hit in hits if hit is not passage]
    assert {hit.text for hit in pictures} <= {"red.png", "green.png", "blue.png"}
    assert all(hit.picture == hit.metadata["path"] for hit in pictures)
    assert json.loads(json.dumps([hit.metadata for hit in hits])) == [hit.metadata for hit in hits]


def test_filters_are_dicts_or_objects(source):
    opened = open_source(source)
    for where in ({"path": "*green*"}, Filter(path="*green*")):
        [hit] = find(opened, "x", 10, {"where": where, "modality": "image", "rerank": "none"})
        assert hit.text == "green.png"
    with pytest.raises(UsageError, match="colour"):
        find(opened, "x", 10, {"where": {"colour": "green"}})
    close_opened(source, opened)


def test_a_source_is_opened_by_its_name(found_library):
    opened = open_source(found_library.path)
    assert isinstance(opened, Library)
    close_opened(found_library.path, opened)
    assert open_source(found_library) is found_library
    assert name_of(found_library) == name_of(str(found_library.path)) == str(found_library.path)
    assert name_of(Path("a/b")) == "a/b"
    with pytest.raises(UsageError, match="not int"):
        open_source(3)
    with Client("http://localhost:1") as client, pytest.raises(UsageError, match="URL"):
        name_of(client)
