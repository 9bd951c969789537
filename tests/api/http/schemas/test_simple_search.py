"""Parameters of an address as a filter."""

from datetime import datetime

import pytest
from pydantic import ValidationError

from api.http.schemas.simple_search import SimpleSearch
from retrieval.filters import Filter


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, None),
        ({"q": "x", "k": 3}, None),
        ({"kind": ["image", "video"]}, {"kind": ["image", "video"]}),
        ({"camera": "x100", "place": "Paris"}, {"camera": "x100", "place": "Paris"}),
        ({"since": "2024"}, {"taken_at": {"since": datetime(2024, 1, 1)}}),
        ({"keyword": ["a", "b"]}, {"and": [{"keyword": "a"}, {"keyword": "b"}]}),
        ({"path": ["a", "b"]}, {"and": [{"or": [{"path": "a"}, {"path": "b"}]}]}),
    ],
)
def test_repeated_parameters_are_joined(parameters, expected):
    found = SimpleSearch.model_validate(parameters).filter_with(None)
    assert found == (None if expected is None else Filter.model_validate(expected))


def test_a_filter_of_json_holds_too():
    where = Filter(rating={"min": 3})
    found = SimpleSearch(camera="x").filter_with(where)
    assert found == Filter.model_validate({"camera": "x", "and": [{"rating": {"min": 3}}]})


@pytest.mark.parametrize(
    "wrong", [{"kind": ["photo"]}, {"since": "soon"}, {"unknown": 1}, {"k": 0}, {"keyword": [""]}]
)
def test_what_is_no_parameter_is_refused(wrong):
    with pytest.raises(ValidationError):
        SimpleSearch.model_validate(wrong)
