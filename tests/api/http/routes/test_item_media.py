"""Thumbnails and files over HTTP, with the headers that keep both harmless."""

import io
import os
import re
from urllib.parse import unquote

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.library import create_library

SCRIPT = "<script>alert(document.cookie)</script>"
ODD_NAMES = [
    "plain.png",
    "雪 und Grün.png",
    'quote".png',
    "back\\slash.png",
    "new\nline: injected.png",
    "percent%20.png",
    "semi; filename=evil.exe.png",
    "cod\u202egnp.exe.png",
    os.fsdecode(b"caf\xe9.png"),
    "x" * 251 + ".png",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for number, name in enumerate(ODD_NAMES):
        stream = io.BytesIO()  # Pillow would take the bytes of an odd name for something else
        Image.new("RGB", (700, 400), (number * 20, 0, 0)).save(stream, "PNG")
        (folder / name).write_bytes(stream.getvalue())
    (folder / "page.html").write_text(f"<html><body>Two dogs in the snow. {SCRIPT}</body></html>")
    (folder / "drawing.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">{SCRIPT}'
        '<rect width="40" height="40" fill="green"/></svg>'
    )
    (folder / "liar.jpg").write_bytes((folder / "plain.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory, tiny_encoder, folder):
    library = create_library(tmp_path_factory.mktemp("served") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        yield client


def test_a_thumbnail_is_kept_for_ever_by_its_address(client, items):
    item = items["plain.png"]
    shown = client.get(item["thumbnail"], headers={"Accept": "image/avif,image/webp,*/*"})
    assert shown.headers["content-type"] == "image/webp"
    assert shown.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert shown.headers["vary"] == "Accept"
    with Image.open(io.BytesIO(shown.content)) as image:
        assert image.size == (320, 183)
    again = client.get(item["thumbnail"], headers={"If-None-Match": "*"})
    assert again.status_code == 304
    other = client.get(f"/v1/items/{item['item_id']}/thumbnail?v=another&format=jpeg")
    assert other.headers["cache-control"] == "private, no-cache"
    assert other.headers["content-type"] == "image/jpeg"
    assert other.headers["etag"] != shown.headers["etag"]


@pytest.mark.parametrize(
    "parameters", ["size=321", "size=100000", "format=gif", "path=/etc/passwd"]
)
def test_thumbnails_of_sizes_that_would_fill_the_disk(client, parameters):
    assert client.get(f"/v1/items/1/thumbnail?{parameters}").status_code == 422


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_file_name_is_a_harmless_header(client, folder, items, name):
    spelled = os.fsencode(name).decode("utf-8", "backslashreplace")
    answer = client.get(f"/v1/items/{items[spelled]['item_id']}/file")
    assert answer.status_code == 200
    assert answer.content == (folder / name).read_bytes()
    assert answer.headers["content-type"] == "image/png"
    disposition = answer.headers["content-disposition"]
    found = re.fullmatch(
        r"inline; filename=\"([ !#-\[\]-~]*)\"; filename\*=UTF-8''(\S*)", disposition
    )
    assert found, disposition
    assert "\u202e" not in unquote(found[2])
    if name.isprintable() and len(name) < 100:
        assert unquote(found[2]) == name


@pytest.mark.parametrize(
    ("name", "content_type", "disposition"),
    [
        ("page.html", "text/plain; charset=utf-8", "inline"),
        ("drawing.svg", "image/svg+xml", "attachment"),
        ("liar.jpg", "image/png", "inline"),
    ],
)
def test_scripts_in_files_do_not_run(client, items, name, content_type, disposition):
    answer = client.get(f"/v1/items/{items[name]['item_id']}/file")
    assert answer.headers["content-type"] == content_type
    assert answer.headers["content-disposition"].startswith(f"{disposition};")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox;")


def test_a_video_may_be_loaded_by_the_player_and_run_nothing(tmp_path, tiny_encoder, short_video):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [short_video])
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        answer = client.get("/v1/items/1/file")
    assert answer.headers["content-type"] == "video/webm"
    assert answer.headers["content-disposition"].startswith("inline;")
    assert answer.headers["content-security-policy"] == "default-src 'none'; media-src 'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10-", 10, -1),
        ("bytes=-7", -7, -1),
        ("bytes=0-99999999999999999999999", 0, -1),
        ("bytes=-99999999", 0, -1),
    ],
)
def test_a_range_of_a_file(client, folder, items, asked, first, last):
    content = (folder / "plain.png").read_bytes()
    size = len(content)
    first, last = first % size, last % size
    answer = client.get(f"/v1/items/{items['plain.png']['item_id']}/file", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == content[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "x", "bytes=a-"]
)
def test_what_is_no_single_range_gets_the_whole_file(client, folder, items, asked):
    answer = client.get(f"/v1/items/{items['plain.png']['item_id']}/file", headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == (folder / "plain.png").read_bytes()


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0", "bytes=99999999-99999999"])
def test_a_range_past_the_end(client, folder, items, asked):
    answer = client.get(f"/v1/items/{items['plain.png']['item_id']}/file", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-range"] == f"bytes */{(folder / 'plain.png').stat().st_size}"


def test_a_range_of_another_version_gets_the_whole_file(client, items):
    url = f"/v1/items/{items['plain.png']['item_id']}/file"
    tag = client.head(url).headers["etag"]
    same = client.get(url, headers={"Range": "bytes=0-3", "If-Range": tag})
    other = client.get(url, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    dated = client.get(
        url, headers={"Range": "bytes=0-3", "If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"}
    )
    assert [same.status_code, other.status_code, dated.status_code] == [206, 200, 200]
    assert client.get(url, headers={"If-None-Match": f'"x", W/{tag}'}).status_code == 304


def test_size_and_type_alone(client, folder, items):
    answer = client.head(f"/v1/items/{items['plain.png']['item_id']}/file")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == str((folder / "plain.png").stat().st_size)
    assert answer.headers["accept-ranges"] == "bytes"


def test_linked_secret_is_not_served_in_any_way(client, folder, items, tmp_path):
    """A file of a source becomes a link to what the library was never told of."""
    Image.new("RGB", (700, 400), "white").save(tmp_path / "secret.png")
    path = folder / "semi; filename=evil.exe.png"
    item_id = items[path.name]["item_id"]
    aside = tmp_path / "aside.png"
    path.rename(aside)
    path.symlink_to(tmp_path / "secret.png")
    try:
        for what in ("thumbnail?size=1280", "file", "thumbnail?size=160&format=webp"):
            answer = client.get(f"/v1/items/{item_id}/{what}")
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
            assert str(tmp_path) not in answer.text
        assert client.head(f"/v1/items/{item_id}/file").status_code == 404
        answer = client.get("/v1/explain", params={"text": "white", "item": item_id})
        assert answer.status_code == 404
    finally:
        path.unlink()
        aside.rename(path)


def test_a_file_as_a_download(client, items):
    url = f"/v1/items/{items['plain.png']['item_id']}/file?download=true"
    for answer in (client.get(url), client.head(url)):
        assert answer.headers["content-disposition"].startswith('attachment; filename="plain.png"')
        assert answer.headers["content-security-policy"].startswith("sandbox;")


def pdf(path, pages: int) -> None:
    sheets = [Image.new("RGB", (300, 400), (40 * n, 200, 200)) for n in range(pages)]
    sheets[0].save(path, "PDF", save_all=True, append_images=sheets[1:])


def test_a_pdf_may_be_shown_by_the_viewer_of_the_browser(tmp_path, tiny_encoder):
    pdf(tmp_path / "book.pdf", 3)
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "book.pdf"])
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        answer = client.get("/v1/items/1/file")
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-disposition"].startswith("inline;")
        assert answer.headers["content-security-policy"] == "default-src 'none'; object-src 'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        second = client.get("/v1/items/2").json()
        around = client.get(f"/v1/items/{second['item_id']}/neighbours").json()
        assert [item["page"] for side in around.values() for item in side] == [1, 3]
        many = client.get(f"/v1/items/{second['item_id']}/neighbours?before=0&after=9").json()
        assert [many["before"], [item["page"] for item in many["after"]]] == [[], [3]]
        page = client.get(f"{second['thumbnail']}".replace("size=320", "size=2560"))
        with Image.open(io.BytesIO(page.content)) as image:
            assert image.height == 2560, "rendered at that size, not enlarged"
    assert client.get("/v1/items/1/neighbours?before=101").status_code == 422
