"""Parts of queries, as people write them."""

import http.server
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from api.cli.query_parts import parse_parts
from retrieval.errors import UsageError
from retrieval.search.query import ImagePart, ItemPart, TextPart


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("cat", TextPart("cat")),
        ("2:cat", TextPart("cat", 2.0)),
        ("0.5: a cat", TextPart("a cat", 0.5)),
        (".5:cat", TextPart("cat", 0.5)),
        ("16:9", TextPart("16:9")),
        ("10:30 train", TextPart("10:30 train")),
        ("note: cat", TextPart("note: cat")),
        ("2:", TextPart("2:")),
    ],
)
def test_a_weight_stands_before_a_text(text, part):
    assert parse_parts(text) == (part,)
    assert parse_parts(text, literal=True) == (TextPart(text),)


def test_a_weight_of_no_text_is_refused():
    with pytest.raises(UsageError, match=r"--weight is that of the text.*2:cat\.jpg"):
        parse_parts(None, like=[7], weight=2)
    assert parse_parts(None, like=[7], weight=1) == (ItemPart(7),)


def test_all_parts_have_weights():
    assert parse_parts(
        "2:cat", add=["0.5:night"], subtract=["snow", "3:rain"], minus=["2:dog"], like=[7], weight=3
    ) == (
        TextPart("cat", 6.0),
        TextPart("night", 0.5),
        TextPart("snow", -1.0),
        TextPart("rain", -3.0),
        TextPart("2:dog", -1.0),
        ItemPart(7),
    )
    for weight in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="--subtract"):
            parse_parts("cat", weight=weight)


@given(st.text())
def test_any_text_is_a_query(text):
    [part] = parse_parts(text, text_may_be_image=True)
    assert isinstance(part, TextPart)
    assert text.endswith(part.text)


def test_images_are_parts_where_they_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 8), "red").save("red.png")
    named = parse_parts("red.png", image="0.5:red.png", subtract=["2:red.png"], add=["red"])
    assert [part.weight for part in named] == [1.0, 0.5, 1.0, -2.0]
    assert [type(part) for part in named] == [TextPart, ImagePart, TextPart, ImagePart]
    [here] = parse_parts("red.png", text_may_be_image=True)
    assert here.image.size == (9, 8)
    with pytest.raises(UsageError, match=r"nowhere\.png: No such file"):
        parse_parts(None, image="nowhere.png")
    assert parse_parts("nowhere.png", text_may_be_image=True) == (TextPart("nowhere.png"),)


@pytest.fixture
def site(tmp_path):
    """A web server of this machine with an image and a text."""
    (tmp_path / "site").mkdir()
    Image.new("RGB", (9, 8), "red").save(tmp_path / "site" / "red.png")
    (tmp_path / "site" / "page.html").write_text("<p>No image.")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given):
            super().__init__(*given, directory=str(tmp_path / "site"))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_address_is_downloaded(site, monkeypatch):
    [part] = parse_parts(None, image=f"2:{site}/red.png")
    assert (part.image.size, part.weight) == ((9, 8), 2.0)
    [added] = parse_parts(None, add=[f"{site}/red.png"])
    assert isinstance(added, ImagePart)
    for wrong, why in [
        (f"{site}/none.png", "answers 404"),
        (f"{site}/page.html", f"The query image {site}/page.html: not an image"),
        ("http://127.0.0.1:1/x.png", "cannot be downloaded"),
        ("http://[/x.png", "cannot be downloaded"),
    ]:
        with pytest.raises(UsageError, match=why):
            parse_parts(None, image=wrong)
    monkeypatch.setattr("api.cli.query_parts._MOST_BYTES", 10)
    with pytest.raises(UsageError, match="larger than"):
        parse_parts(None, image=f"{site}/red.png")
