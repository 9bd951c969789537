"""`mmsearch search` on a service: the same answers, limits and errors as here."""

import json
from pathlib import Path

import pytest
from PIL import Image

from retrieval.search.query import (
    MAX_K,
    MAX_PARTS,
    MAX_RERANK_BUDGET_MS,
    MAX_RERANK_DEPTH,
    MAX_TEXT_LENGTH,
)

pytestmark = pytest.mark.slow

VIEWER = "a" * 24


@pytest.fixture(scope="module")
def photos(coloured_library):
    with coloured_library.catalog.snapshot() as snapshot:
        [source] = snapshot.sources()
    return Path(source)


@pytest.fixture(scope="module")
def service(coloured_library, photos, running_service):
    with running_service(coloured_library, photos, api_keys=f"viewer:read:{VIEWER}") as service:
        yield service


@pytest.fixture
def as_viewer(monkeypatch):
    monkeypatch.setenv("MMSEARCH_API_KEY", VIEWER)


@pytest.mark.parametrize("question", [("blue",), ("--image", "{photos}/1-green.png")])
def test_the_command_line_prints_the_same_of_a_service(service, photos, run, as_viewer, question):
    question = [word.format(photos=photos) for word in question]
    here = run("search", *question, "--rerank", "none", "--library", service.library.path)
    there = run("search", *question, "--server", service.address)
    assert there == here
    assert here[0] == 0
    code, out, err = run("search", *question, "--server", service.address, "--json")
    assert (code, err) == (0, "")
    _, expected, _ = run(
        "search", *question, "--rerank", "none", "--json", "--library", service.library.path
    )
    told, here_told = json.loads(out), json.loads(expected)
    assert set(told) == set(here_told)
    assert told["image"] == here_told["image"]
    for hit, expected_hit in zip(told["hits"], here_told["hits"], strict=True):
        assert hit.pop("similarity") == pytest.approx(expected_hit.pop("similarity"), abs=1e-6)
        assert hit == expected_hit


BEYOND_LIMITS = [
    (("x", "-k", MAX_K + 1), "10,000"),
    (("x" * (MAX_TEXT_LENGTH + 1),), "10,001 characters; 10,000 are the most"),
    (("x", *["--minus", "y"] * MAX_PARTS), "at most 16 parts, not 17"),
    (("x", "--rerank-depth", MAX_RERANK_DEPTH + 1), "--rerank-depth"),
    (("x", "--rerank-budget", MAX_RERANK_BUDGET_MS + 1), "--rerank-budget"),
    (("x", "--rerank-budget", "nan"), "--rerank-budget"),
]


@pytest.mark.parametrize("place", ["--server", "--library"])
@pytest.mark.parametrize(("question", "message"), BEYOND_LIMITS)
def test_limits_are_the_same_here_and_on_a_service(
    service, run, as_viewer, place, question, message
):
    where = service.address if place == "--server" else service.library.path
    code, out, err = run("search", *question, place, where)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("place", ["--server", "--library"])
@pytest.mark.parametrize(
    "question",
    [
        ("x", "--rerank-depth", 2000),
        ("x" * MAX_TEXT_LENGTH, "--rerank-budget", MAX_RERANK_BUDGET_MS, "-k", MAX_K),
    ],
)
def test_what_is_within_the_limits_is_answered(service, run, as_viewer, place, question):
    where = service.address if place == "--server" else service.library.path
    assert run("search", *question, place, where, "--rerank", "none")[0] == 0


@pytest.mark.parametrize(
    "question",
    [("--like", 0), ("--like", 2**63), ("x", "--cursor", "")],
)
def test_what_no_service_accepts_is_a_usage_error(service, run, as_viewer, question):
    code, _, err = run("search", *question, "--server", service.address)
    assert code == 2
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("item", [0, 2**63])
def test_an_item_that_cannot_be_there_is_a_usage_error(service, run, item):
    code, _, err = run("search", "--like", item, "--library", service.library.path)
    assert (code, len(err.splitlines())) == (2, 1)


def test_a_contact_sheet_of_a_service(service, run, tmp_path, as_viewer):
    sheet = tmp_path / "sheet.png"
    assert run("search", "x", "--server", service.address, "--contact-sheet", sheet)[0] == 0
    with Image.open(sheet) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert {(255, 255, 255)} < colours
    assert any(r > 200 and max(g, b) < 60 for r, g, b in colours)


def test_the_environment_names_the_service_unless_a_library_is_named(
    service, run, monkeypatch, as_viewer
):
    monkeypatch.setenv("MMSEARCH_SERVER", "http://127.0.0.1:9")
    code, _, err = run("search", "x")
    assert (code, "127.0.0.1:9" in err) == (1, True)
    assert run("search", "x", "--rerank", "none", "--library", service.library.path)[0] == 0


@pytest.mark.parametrize(
    "wrong",
    [("--library", "x"), ("--device", "cpu"), ("--rerank", "fusion:x")],
)
def test_options_that_make_no_sense_on_a_service_are_errors(run, wrong):
    code, _, err = run("search", "x", "--server", "http://127.0.0.1:9", *wrong)
    assert code == 2
    assert wrong[0] in err
