"""The formats: what tells them, that nothing else lists them, and that one object adds one."""

import ast
import io
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.decode import READERS
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.media import MediaKind
from retrieval.media import registry as formats
from retrieval.media.registry import FORMATS, UNKNOWN_TYPE, format_of, format_of_content, kind_of

REPOSITORY = Path(__file__).resolve().parents[3]
NOT_BY_THEMSELVES = {"EPS", "WMF", "MPEG", "FITS", "HDF5", "BUFR", "GRIB"}
"""What Pillow names but cannot draw by itself; EPS would start an interpreter."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("photo.JPG", MediaKind.IMAGE),
        ("b.jpeg", MediaKind.IMAGE),
        ("雪.png", MediaKind.IMAGE),
        ("c.tar.webp", MediaKind.IMAGE),
        ("d.TIF", MediaKind.IMAGE),
        ("e.gif", MediaKind.IMAGE),
        ("f.HEIC", MediaKind.IMAGE),
        ("g.heif", MediaKind.IMAGE),
        ("drawing.svg", MediaKind.IMAGE),
        ("drawing.svgz", MediaKind.IMAGE),
        ("h.CR2", MediaKind.IMAGE),
        ("i.cr3", MediaKind.IMAGE),
        ("j.nef", MediaKind.IMAGE),
        ("raw.dng", MediaKind.IMAGE),
        ("/some/where/clip.Mp4", MediaKind.VIDEO),
        ("paper.pdf", MediaKind.DOCUMENT),
        ("notes.txt", MediaKind.TEXT),
        ("page.html", MediaKind.TEXT),
        ("rows.jsonl", MediaKind.TABLE),
        ("rows.parquet", MediaKind.TABLE),
        ("program.exe", None),
        ("program.ts", None),
        ("figure.eps", None),
        ("no ending", None),
        ("jpg", None),
        ("", None),
        (".jpg", None),
        ("folder.jpg/file", None),
    ],
)
def test_kinds_by_ending(name, kind):
    assert kind_of(name) is kind


def test_endings_are_in_lower_case_with_a_dot_and_of_one_format_each():
    endings = Counter(ending for form in FORMATS for ending in form.endings)
    assert set(endings.values()) == {1}
    assert all(re.fullmatch(r"\.[a-z0-9]+", ending) for ending in endings)


def test_every_format_that_pillow_draws_is_known_by_its_endings():
    for ending, name in Image.registered_extensions().items():
        if name in Image.OPEN and name not in NOT_BY_THEMSELVES:
            known = format_of(f"file{ending}")
            assert known is not None, ending
            assert known.name in {name, "HEIC"}, ending


def test_the_registry_imports_no_decoder():
    program = (
        "import sys, retrieval.media.registry as formats\n"
        "formats.kind_of('a.jpg'), formats.format_of_content(b'GIF89a', 'a')\n"
        "heavy = {'PIL', 'numpy', 'sqlalchemy', 'av', 'pypdfium2', 'rawpy', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert result.stdout == "[]\n"


def image_bytes(name: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    if name == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.fromarray(pixels).save(stream, name)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        *((name, name) for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PDF")),
        ("HEIF", "HEIC"),
        ("JPEG2000", "JPEG2000"),
    ],
)
def test_written_files_are_told_by_their_content(written, told):
    found = format_of_content(image_bytes(written)[:4096], "liar.txt")
    assert found is not None
    assert found.name == told


@pytest.mark.parametrize(
    ("head", "name", "told"),
    [
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "a", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "a", "AVIF"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a.mp4", "QuickTime"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a.mov", "MP4"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "a.mkv", "WebM"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "a.webm", "Matroska"),
        (3 * (b"G" + bytes(187)), "a", "MPEG-TS"),
        (3 * (bytes(4) + b"G" + bytes(187)), "a", "MPEG-TS"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg:svg>', "a.txt", "SVG"),
        (b"II*\0\x10\0\0\0CR", "a.cr2", "camera RAW"),
        (b"II*\0\x10\0\0\0CR", "a.tif", "TIFF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "a.cr3", "camera RAW"),
        (b"\xff\xd8\xff\xe0", "a.nef", "JPEG"),
        (b"Good morning, two dogs.", "a.txt", "plain text"),
        (b"BM is how my notes begin.", "a.md", "Markdown"),
        (b"a,b\n1,2\n", "a.csv", "CSV"),
        (b"Not what its name says.", "a.jpg", None),
        (b"\x7fELF", "a.exe", None),
    ],
)
def test_formats_by_their_first_bytes(head, name, told):
    found = format_of_content(head, name)
    assert (found and found.name) == told


def test_what_was_indexed_is_of_no_other_kind():
    assert format_of_content(b"<svg>", "notes.txt", MediaKind.TEXT) is format_of("a.txt")
    assert format_of_content(b"\0\0\0\x18ftypisom", "a.jpg", MediaKind.IMAGE) is None


WRITTEN_NOT_READ = {
    "api/drawing/text.py": "what pictures are saved as",
    "api/http/routes/page.py": "the page's own files",
    "benchmarks/datasets/vidore.py": "files of its datasets",
    "benchmarks/quality/clip_benchmark.py": "what tables are saved as",
    "benchmarks/quality/mteb_models.py": "what documents of tasks are saved as",
    "benchmarks/quality/relevance.py": "what plots are saved as",
    "indexer/vectors/files.py": "what vectors are saved as",
    "retrieval/encoders/checkpoints.py": "files of a model",
    "retrieval/integrity/thumbnails.py": "what thumbnails are saved as",
}


def test_no_other_module_lists_endings():
    known = {ending for form in FORMATS for ending in form.endings}
    lists = {}
    for package in ("api", "benchmarks", "indexer", "retrieval"):
        for file in (REPOSITORY / package).rglob("*.py"):
            place = file.relative_to(REPOSITORY).as_posix()
            found = {
                word
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
                for word in node.value.split()
                if word in known
            }
            if len(found) > 1 and place not in WRITTEN_NOT_READ:
                lists[place] = found
    assert set(lists) == {"retrieval/media/registry.py"}, lists


def test_the_reference_names_every_ending_and_extra():
    reference = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    [section] = re.findall(r"\n\| kind \| formats.*?\n\n", reference, re.DOTALL)
    rows = {row.split("|")[1].strip(): row for row in section.strip().splitlines()[2:]}
    assert set(rows) == set(MediaKind)
    for form in FORMATS:
        for word in (*form.endings, *([form.extra] if form.extra else [])):
            assert f"`{word}`" in rows[form.kind], f"{word} of {form.name}"


TOY = """
import tempfile

from indexer.media import image
from indexer.decode import READERS
from retrieval.media import MediaKind
from retrieval.media.images import read_image
from retrieval.media.registry import Format, register


def render(source, item, least_side, max_pixels):
    with open(source, "rb") if isinstance(source, str) else source as file:
        return read_image(file.read()[4:], least_side=least_side, max_pixels=max_pixels)


def read(path, start, options):
    with open(path, "rb") as file, tempfile.NamedTemporaryFile() as picture:
        picture.write(file.read()[4:])
        picture.flush()
        return image.read(picture.name, start, options)


TOY = Format(
    "Toy", (".toy",), "application/x-toy", b"TOY1", kind=MediaKind.DOCUMENT, render=render
)
register(TOY)
READERS[TOY] = read
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A format that every process knows which this one starts."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "toy_format.py").write_text(TOY)
    (modules / "sitecustomize.py").write_text("import toy_format\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (modules, REPOSITORY))))
    monkeypatch.syspath_prepend(modules)
    before = list(FORMATS)
    import toy_format

    yield toy_format.TOY
    del sys.modules["toy_format"], READERS[toy_format.TOY], formats._by_ending[".toy"]
    FORMATS[:] = before


@pytest.mark.slow
def test_a_new_format_is_indexed_uploaded_served_and_shown(
    toy, tmp_path, tiny_encoder, running_service
):
    folder, uploads = tmp_path / "folder", tmp_path / "uploads"
    folder.mkdir()
    contents = {}
    for name in ("red", "blue"):
        stream = io.BytesIO()
        Image.new("RGB", (60, 40), name).save(stream, "PNG")
        contents[name] = b"TOY1" + stream.getvalue()
    (folder / "red.toy").write_bytes(contents["red"])
    library = create_library(tmp_path / "library", tiny_encoder.space)
    assert index_sources(library, tiny_encoder, [folder]).added == 1

    with running_service(library, folder, uploads=uploads) as service:
        files = [("files", ("blue picture", contents["blue"]))]
        answer = service.client.post("/v1/items", params={"wait": True}, files=files)
        assert answer.status_code in {200, 202}, answer.text
        service.finished(answer.json())
        assert [file.name for file in uploads.iterdir()] == ["blue picture.toy"]

        hits = service.client.post("/v1/search", json={"text": "x"}).json()["hits"]
        assert {hit["kind"] for hit in hits} == {MediaKind.DOCUMENT}
        shown = {}
        for hit in hits:
            served = service.client.get(f"/v1/items/{hit['item_id']}/file")
            assert served.headers["content-type"] == toy.content_type != UNKNOWN_TYPE
            thumbnail = service.client.get(hit["thumbnail"]).content
            with Image.open(io.BytesIO(thumbnail)) as image:
                shown[Path(hit["path"]).name] = (served.content, image.getpixel((20, 20)))
    library.close()
    assert {name: content for name, (content, _) in shown.items()} == {
        "red.toy": contents["red"],
        "blue picture.toy": contents["blue"],
    }
    colors = {name: np.round(np.array(color) / 255) for name, (_, color) in shown.items()}
    np.testing.assert_array_equal(colors["red.toy"], [1, 0, 0])
    np.testing.assert_array_equal(colors["blue picture.toy"], [0, 0, 1])
