"""The values of one facet, against counting one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog.facets import ColumnFacet, FileFacets, Labels
from retrieval.errors import UsageError
from retrieval.search.facet_values import FacetQuestion, NestedValue, list_values

FOLDERS = ["", "/s/", "/s/2019/", "/s/2019/rome/", "/s/2019/Rome 2/old/", "/s/x/", "/s2/", "/t/x/"]
MONTHS = ["", "2018-12", "2019-01", "2019-11"]
PLACES = [
    "",
    "Paris\nMontmartre\nÎle-de-France\nFrance",
    "Lyon\nAuvergne-Rhône-Alpes\nFrance",
    "Paris\nTexas\nUnited States",
    "Singapore",
    "Hamburg\nGermany",
]
CAMERAS = ["", "iPhone 12", "iPhone 12 Pro", "Canon EOS R5"]
NONE = ColumnFacet((), *np.zeros((2, 0, 2), np.int64))
ALL = (FOLDERS, MONTHS, PLACES, CAMERAS)
SOURCES = ["/s", "/s/2019", "/t/x", "/one.jpg"]


def labels(names, codes):
    return Labels(names.__getitem__, np.array([0, *codes], np.int32))


@st.composite
def catalogs(draw):
    """Folder, month, place and camera of files 1, 2, 3 ..., and the facets of them."""
    facts = draw(st.lists(st.tuples(*map(st.sampled_from, ALL)), max_size=12))
    of_each = zip(*facts, strict=True) if facts else [()] * len(ALL)
    folders, months, places, cameras = (
        labels(names, map(names.index, values)) for names, values in zip(ALL, of_each, strict=True)
    )
    return facts, FileFacets(months, folders, {"place": places, "camera": cameras}, SOURCES)


def ask(known, facet, below=(), contains="", limit=100):
    facts, files = known
    ids = np.arange(1, len(facts) + 1)
    return list_values(FacetQuestion(facet, below, contains, limit), ids, ids, files, {}, NONE)


def counted(found):
    return {(*value.within, value.value): value.count for value in found.values}


@given(catalogs(), st.sampled_from(["", "/s", "/s/", "/s/2019", "/t", "/nowhere"]))
def test_folders_are_a_tree(known, below):
    found = ask(known, "folders", (below,) if below else ())
    folders = [folder for folder, *_ in known[0] if folder]
    shown = ["/s", "/t/x"]
    if below:
        top = below.rstrip("/") + "/"
        shown = {
            top + folder[len(top) :].split("/")[0]
            for folder in folders
            if folder.startswith(top) and folder != top
        }
    expected = {
        path: sum(folder.startswith(path + "/") for folder in folders) for path in sorted(shown)
    }
    assert {v.value: v.count for v in found.values} == {p: n for p, n in expected.items() if n}
    for value in found.values:
        assert value.has_more == bool(ask(known, "folders", (value.value,)).values)


@given(catalogs())
def test_folders_are_found_by_a_part_of_their_name(known):
    found = ask(known, "folders", ("/s",), "ROME")
    folders = [folder for folder, *_ in known[0]]
    assert {v.value: v.count for v in found.values} == {
        path: n
        for path in ("/s/2019/rome", "/s/2019/Rome 2")
        if (n := sum(folder.startswith(path + "/") for folder in folders))
    }


@given(catalogs())
def test_places_are_a_tree(known):
    places = [place.splitlines()[::-1] for _, _, place, _ in known[0] if place]
    by_country = ask(known, "places")
    assert sum(v.count for v in by_country.values) == len(places)
    for country in by_country.values:
        name = country.value
        assert country.count == sum(place[0] == name for place in places)
        regions = ask(known, "places", (name,))
        assert country.has_more == bool(regions.values)
        for region in regions.values:
            cities = ask(known, "places", (name, region.value))
            assert region.has_more == bool(cities.values)
            assert all(not city.has_more for city in cities.values)
            assert all(city.within == (name, region.value) for city in cities.values)
    by_name = counted(ask(known, "places", contains="paris"))
    assert by_name == {
        within: n
        for within, place in (
            (("France", "Île-de-France", "Paris"), PLACES[1]),
            (("United States", "Texas", "Paris"), PLACES[3]),
        )
        if (n := sum(fact[2] == place for fact in known[0]))
    }
    smaller = counted(ask(known, "places", contains="montmartre"))
    assert set(smaller) <= {("France", "Île-de-France", "Montmartre")}


@given(catalogs())
def test_years_months_and_cameras(known):
    months = [month for _, month, _, _ in known[0] if month]
    assert [v.value for v in ask(known, "years").values] == sorted({m[:4] for m in months})[::-1]
    of_2019 = [v.value for v in ask(known, "months", ("2019",)).values]
    assert of_2019 == sorted({m for m in months if m.startswith("2019")})[::-1]
    found = ask(known, "cameras", contains="IPHONE", limit=1)
    cameras = [camera for *_, camera in known[0]]
    counts = sorted((-cameras.count(name), name) for name in CAMERAS[1:3] if name in cameras)
    assert found.values == tuple(NestedValue(name, -n) for n, name in counts[:1])
    assert found.left_out == max(0, len(counts) - 1)
    assert found.total == len(known[0])


def test_values_of_a_column():
    pairs = np.array([(1, 0), (2, 0), (2, 1)])
    column = ColumnFacet(["Alps", 2019, True], pairs, np.array([(5, 2)]))
    files = FileFacets(labels([""], []), labels([""], []), {}, [])
    asked = FacetQuestion("columns.album")
    ids = np.array([1, 2, 2]), np.array([4, 5, 6])
    found = list_values(asked, *ids, files, {"album": column}, NONE)
    assert [(v.value, v.count) for v in found.values] == [("Alps", 3), (2019, 2), (True, 1)]
    assert list_values(FacetQuestion("columns.b"), *ids, files, {}, NONE).values == ()


@pytest.mark.parametrize(
    ("facet", "below"),
    [("colours", ()), ("cameras", ("Canon",)), ("folders", ("/a", "/b")), ("places", tuple("abc"))],
)
def test_what_is_no_facet_is_refused(facet, below):
    with pytest.raises(UsageError):
        FacetQuestion(facet, below)
