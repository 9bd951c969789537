import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from PIL import Image
from pydantic import ValidationError
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.filters import ColumnTest, Filter, GeoBox, Range, TimeRange
from retrieval.library import create_library
from retrieval.media import MediaKind
from retrieval.search.engine import Engine
from retrieval.search.query import Query, TextPart

ONE_OF_EACH = {
    "source": "/photos",
    "path": "**/*.jpg",
    "kind": tuple(MediaKind),
    "taken_at": TimeRange(since=datetime(2026, 3, 3, tzinfo=UTC)),
    "width": Range(min=1),
    "height": Range(max=1),
    "camera": "Canon",
    "camera_name": "Canon EOS R5",
    "gps": GeoBox(south=0, north=1, west=0, east=1),
    "place": "Paris",
    "rating": Range(min=4),
    "label": "Red",
    "keyword": "beach",
    "person": "Ann Lee",
    "collection": "Summer",
    "hidden": "any",
    "has_text": True,
    "columns": {"shelf": ColumnTest(equals="blue"), "year": ColumnTest(min=1990)},
    "all_of": (Filter(columns={"a": ColumnTest(contains="b")}),),
    "any_of": (Filter(camera="x"), Filter(kind=(MediaKind.IMAGE,))),
    "none_of": Filter(columns={"a": ColumnTest(equals=1.5)}),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    """Two pictures and a table that tells their shelves."""
    folder = tmp_path_factory.mktemp("shelved")
    for shelf in ("blue", "red"):
        Image.new("RGB", (60, 40), shelf).save(folder / f"{shelf}.png")
    rows = ["image,caption,shelf,year", "blue.png,a house,blue,1990", "red.png,a cat,red,1980"]
    (folder / "table.csv").write_text("\n".join(rows))
    library = create_library(tmp_path_factory.mktemp("library") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


COLUMN_FILTERS = [
    {"columns": {"shelf": {"equals": "blue"}}},
    {"columns": {"year": {"min": 1985}, "shelf": {"contains": "lu"}}},
    {"not": {"columns": {"year": {"max": 1985}}}},
    {"and": [{"kind": ["image"]}, {"or": [{"columns": {"year": {"equals": 1990}}}]}]},
]


def test_every_field_can_be_a_key_and_tells_filters_apart():
    assert set(ONE_OF_EACH) == set(Filter.model_fields)
    filters = [Filter(), *(Filter(**{name: value}) for name, value in ONE_OF_EACH.items())]
    assert len(set(filters)) == len(filters)
    everything = Filter(**ONE_OF_EACH)
    assert {everything: 1}[Filter.model_validate_json(everything.model_dump_json())] == 1


def test_values_that_python_takes_for_equal_are_different_filters():
    for one, other in itertools.combinations([True, 1, "1"], 2):
        assert ColumnTest(equals=one) != ColumnTest(equals=other)
        assert len({Filter(columns={"a": ColumnTest(equals=v)}) for v in (one, other)}) == 2
    assert Filter(columns={"a": ColumnTest(min=1), "b": ColumnTest(min=2)}) == Filter(
        columns={"b": ColumnTest(min=2), "a": ColumnTest(min=1)}
    )


def test_every_kind_can_be_asked_for_at_once():
    assert Filter(kind=tuple(MediaKind)).kind == tuple(MediaKind)


@pytest.mark.parametrize("where", COLUMN_FILTERS)
def test_the_engine_filters_by_column(library, where):
    engine = Engine(library, device="cpu")
    for _ in range(2):  # computed, then remembered
        answer = engine.search(Query((TextPart("x"),), where=Filter.model_validate(where)))
        assert [hit.path.rpartition("/")[2] for hit in answer.hits] == ["blue.png"]


@pytest.mark.parametrize("where", COLUMN_FILTERS)
def test_the_service_filters_by_column(library, where):
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        answer = client.post("/v1/search", json={"text": "x", "where": where})
    assert answer.status_code == 200, answer.text
    assert [hit["path"].rpartition("/")[2] for hit in answer.json()["hits"]] == ["blue.png"]


@pytest.mark.slow
def test_the_terminal_filters_by_column(library):
    program = [sys.executable, "-c", "from api.cli import main; main()", "search", "x"]
    run = subprocess.run(
        [*program, "--where", json.dumps(COLUMN_FILTERS[0]), "--json", "--library", library.path],
        capture_output=True,
        text=True,
        check=True,
    )
    [hit] = json.loads(run.stdout)["hits"]
    assert hit["path"].endswith("blue.png")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023", datetime(2023, 1, 1)),
        ("2023-05", datetime(2023, 5, 1)),
        ("2023-05-17", datetime(2023, 5, 17)),
        ("2023-05-17T08:00", datetime(2023, 5, 17, 8)),
        ("2023-05-17T08:00:00Z", datetime(2023, 5, 17, 8, tzinfo=UTC)),
    ],
)
def test_dates_may_be_short_also_in_strict_json(text, moment):
    found = Filter.model_validate_json(f'{{"taken_at": {{"since": "{text}"}}}}', strict=True)
    assert found == Filter(taken_at=TimeRange(since=moment))


@pytest.mark.parametrize(
    ("since", "before"),
    [("2024", "2023"), ("2024", "2024"), ("2024-01-01T01:00+02:00", "2023-12-31T23:00Z")],
)
def test_a_range_that_cannot_hold_anything_is_refused(since, before):
    with pytest.raises(ValidationError, match="put the earlier date first"):
        TimeRange(since=since, before=before)
    TimeRange(since=before, before=f"{since}-02" if len(since) == 4 else "2025")


def test_the_cameras_clock_and_an_instant_are_not_compared():
    TimeRange(since=datetime(2024, 1, 1, 5), before=datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "number", ["2.5e-129", "1700000000", "12345.5", "-1", ".5", "nan", "Infinity"]
)
def test_a_number_is_no_date(number):
    """Not the seconds since 1970 that Pydantic would take it for."""
    with pytest.raises(ValidationError, match="a number is no date"):
        TimeRange(since=number)
