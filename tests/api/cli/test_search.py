"""`mmsearch search` as users call it."""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.encoders.registry import LOADERS, load_encoder
from retrieval.encoders.starter import missing_part
from retrieval.library import create_library


def test_searching_as_json_has_the_promised_shape(indexed, run):
    answer = run("search", "a dog", "-k", 3, "--json").json
    assert answer["query"] == "a dog"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    for hit in answer["hits"]:
        assert set(hit) == {
            "rank",
            "item_id",
            "path",
            "kind",
            "modality",
            "page",
            "time_s",
            "start_s",
            "end_s",
            "text",
            "found_by",
            "columns",
            "width",
            "height",
            "taken_local",
            "taken_from",
            "similarity",
            "match",
            "relevance",
            "words",
            "group",
        }
        assert hit["match"] is None
        assert 0 <= hit["relevance"] <= 1
        assert Path(hit["path"]).exists()
    assert answer["timings_ms"]["total"] > 0


def test_searching_by_image(indexed, run, picture_folder):
    image = next(picture_folder.rglob("*.png"))
    answer = run("search", "--image", image, "--json").json
    assert answer["query"] is None
    assert answer["hits"][0]["path"] == str(image)


def test_searching_by_several_parts_and_by_words(indexed, run):
    like = run("search", "--like", 2, "--minus", "a dog", "--diversity", 0.3, "--group", "--json")
    assert len(like.json["hits"]) == 6
    by_words = run("search", "picture-3.png", "--mode", "text", "--rerank", "none").out
    assert by_words.splitlines()[0].endswith("picture-3.png  by its words")
    nothing = run("search", "zebra", "--mode", "text")
    assert (nothing.code, nothing.out) == (0, "")
    assert "No hits" in nothing.err
    assert "picture" not in run("search", "a dog", "--min-relevance", 1).out


@pytest.mark.parametrize(
    "wrong",
    [
        ("a dog", "--mode", "better"),
        ("--minus", "a dog", "--mode", "text"),
        ("a dog", "--cursor", "made up"),
        ("a dog", "--diversity", 2),
        (),
    ],
)
def test_searches_that_cannot_be_meant(indexed, run, wrong):
    assert run("search", *wrong).code == 2


def test_without_a_library_the_folder_can_be_searched(run, tmp_path):
    without = run("search", "a dog")
    assert without.code == 1
    assert "Or search the current folder" in without.err
    assert "current folder" not in run("search", "a dog", "--library", tmp_path / "none").err


def test_an_item_that_is_not_there_is_a_failure(indexed, run):
    answer = run("search", "--like", 999)
    assert answer.code == 1
    assert "no item 999" in answer.err


def test_a_contact_sheet_is_drawn(indexed, run, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert run("search", "a dog", "--contact-sheet", sheet).code == 0
    with Image.open(sheet) as image:
        assert image.width > image.height > 300
    assert run("search", "a dog", "--contact-sheet", tmp_path / "sheet.xyz").code == 2


def test_the_limit_of_indexing_holds_for_contact_sheets(indexed, run, tmp_path, monkeypatch):
    assert run("index", "--max-pixels", 1).code == 0
    sheets = []
    for limit in (10**6, 1):
        monkeypatch.setattr("retrieval.media.images.default_max_pixels", lambda limit=limit: limit)
        sheet = tmp_path / f"{limit}.png"
        options = ("--rerank", "none", "--contact-sheet", sheet)
        assert run("search", "a dog", *options).code == 0
        sheets.append(sheet.read_bytes())
    assert sheets[0] == sheets[1]
    assert len(sheets[0]) > 10_000  # noise, and no grey boxes


def test_a_truncated_query_is_said_so(indexed, run):
    result = run("search", "word " * 50, "--json")
    assert "reads only 16" in result.json["warnings"][0]
    assert "reads only 16" in run("search", "word " * 50).err


@pytest.fixture
def dated(run, encoder_name, tmp_path):
    """Photos of 17 May by the cameras' clocks, of 16 and 18 May, and one without a date."""
    folder = tmp_path / "dated"
    folder.mkdir()
    clocks = {
        "sydney": ("2023:05:17 08:00:00", "+10:00"),
        "denver": ("2023:05:17 20:00:00", "-06:00"),
        "unknown": ("2023:05:17 00:00:00", None),
        "before": ("2023:05:16 23:59:59", "-11:00"),
        "after": ("2023:05:18 00:00:00", "+14:00"),
    }
    for number, (name, (clock, offset)) in enumerate(clocks.items()):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = clock
        if offset:
            exif.get_ifd(0x8769)[0x9011] = offset
        Image.new("RGB", (40, 30), (40 * number, 0, 0)).save(folder / f"{name}.jpg", exif=exif)
    Image.new("RGB", (40, 30), "blue").save(folder / "plain.png")
    noon = datetime(2023, 5, 17, 12).timestamp()
    os.utime(folder / "plain.png", (noon, noon))
    assert run("index", folder, "--encoder", encoder_name).code == 0


def test_days_are_those_of_the_camera_and_hits_may_come_by_date(dated, run):
    of_day = ("--after", "2023-05-17", "--before", "2023-05-18", "--min-relevance", 0)
    answer = run("search", "blue", *of_day, "--sort", "date", "--json").json
    assert [(Path(hit["path"]).stem, hit["taken_local"]) for hit in answer["hits"]] == [
        ("denver", "2023-05-17T20:00:00"),
        ("plain", "2023-05-17T12:00:00"),
        ("sydney", "2023-05-17T08:00:00"),
        ("unknown", "2023-05-17T00:00:00"),
    ]
    assert [hit["taken_from"] for hit in answer["hits"]] == [
        "metadata",
        "mtime",
        "metadata",
        "metadata",
    ]
    by_instant = ("--after", "2023-05-17T00:00Z", "--before", "2023-05-18T00:00Z")
    found = run("search", "blue", "--path", "*.jpg", *by_instant, "--json").json["hits"]
    assert {Path(hit["path"]).stem for hit in found} == {"unknown", "before", "after"}
    lines = run("search", "blue", *of_day, "--sort", "date-asc", "-k", 3).out.splitlines()
    assert "2023-05-17 00:00  " in lines[0]
    assert "2023-05-17 12:00 file date" in lines[2]


def test_dates_in_the_wrong_order_are_refused(indexed, run):
    wrong = run("search", "a dog", "--after", 2024, "--before", 2023)
    assert (wrong.code, wrong.out) == (2, "")
    assert "put the earlier date first (since, --after)" in wrong.err
    assert "cannot be diversified" in run("search", "x", "--sort", "date", "--diversity", 1).err
    assert "sorted by relevance, date" in run("search", "x", "--sort", "size").err


def test_what_was_understood_is_said(run, travel_library):
    at = ("--library", travel_library.path, "--rerank", "none")
    answer = run("search", "people in Paris 2019", *at)
    assert len(answer.out.splitlines()) == 2
    assert "Understood: Paris (place), 2019 (date). --literal" in answer.err
    literal = run("search", "people in Paris 2019", *at, "--literal")
    assert len(literal.out.splitlines()) == 8
    assert "Understood" not in literal.err
    [place, year] = run("search", "people in Paris 2019", *at, "--json").json["understood"]
    assert (place["kind"], year["words"]) == ("place", "2019")
    nothing = run("search", "people 1999", *at)
    assert 'Nothing in the library is of "1999"' in nothing.err


TOY_ENCODER = '''
import numpy as np
from retrieval.encoders import registry
from retrieval.encoders.base import Space
from retrieval.media import Modality

class ToyEncoder:
    """Says how bright pictures are, and how long texts."""

    space = Space("toy", "sha256:0", "brightness", 8)
    modalities = frozenset(Modality)
    context_length = 64
    input_side = 8

    def preprocess(self, image):
        return np.asarray(image.convert("L").resize((8, 1)), np.float32).reshape(-1)

    def encode(self, modality, inputs):
        if modality is Modality.TEXT:
            inputs = [np.full(8, len(text)) for text in inputs]
        vectors = np.asarray(list(inputs), np.float32).reshape(len(inputs), 8) + 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def token_count(self, text):
        return len(text.split())

registry.LOADERS["toy"] = lambda *_: ToyEncoder()
'''
NOT_FOR_A_SEARCH = {
    "alembic",
    "api.http",
    "dateparser",
    "faiss",
    "fastapi",
    "filelock",
    "httpx",
    "huggingface_hub",
    "open_clip",
    "reverse_geocode",
    "rich.progress",
    "scipy",
    "starlette",
    "timm",
    "tokenizers",
    "torch",
    "transformers",
    "urllib.request",
    "uvicorn",
    "watchfiles",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "starter"])
def test_a_first_search_imports_only_what_it_needs(name, picture_folder, tmp_path, monkeypatch):
    if name == "starter" and (missing := missing_part()):
        pytest.skip(f"the second edition of starter cannot be used here, since {missing}")
    monkeypatch.setitem(LOADERS, "toy", None)
    exec(TOY_ENCODER, {})  # which it registers
    encoder = load_encoder(name)
    library = create_library(tmp_path / "library of one", encoder.space)
    index_sources(library, encoder, [picture_folder])
    program = (
        (TOY_ENCODER if name == "toy" else "")
        + "import sys; from api.cli import main; import atexit\n"
        + "atexit.register(lambda: print('IMPORTED', *sys.modules)); main()"
    )
    arguments = ["search", "a dog in 2019", "--library", str(library.path)]
    found = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
    )
    hits, _, imported = found.stdout.partition("IMPORTED")
    assert len(hits.splitlines()) > 1
    loaded = set(imported.split())
    assert {"numpy", "sqlalchemy"} <= loaded
    assert loaded & NOT_FOR_A_SEARCH == set()


TOLD = {
    "rating": 4,
    "label": "Red",
    "persons": ["Ann Lee"],
    "keywords": ["Quokka"],
    "created": "2015-08-22T10:00:00",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "is_found"),
    [
        (("--keyword", "quokka"), True),
        (("--keyword", "quok"), False),
        (("--person", "ann lee"), True),
        (("--person", "bob"), False),
        (("--label", "RED"), True),
        (("--label", "blue"), False),
        (("--min-rating", 4), True),
        (("--min-rating", 5), False),
        (("--keyword", "quokka", "--label", "red", "--min-rating", 3, "--after", 2015), True),
        (("--keyword", "quokka", "--before", 2015), False),
    ],
)
def test_searching_by_what_photo_programs_wrote(
    run, encoder_name, picture_folder, xmp_packet, options, is_found
):
    rated = picture_folder / "folder 0" / "picture-0.png"
    rated.with_suffix(".xmp").write_bytes(xmp_packet(**TOLD))
    assert run("index", picture_folder, "--encoder", encoder_name).code == 0
    found = run("search", "a photo", "--rerank", "none", *options, "--json").json["hits"]
    assert [hit["path"] for hit in found] == [str(rated)] * is_found
