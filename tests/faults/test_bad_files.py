"""Files that are broken in every way, among 200 good photos: each is told of, none does harm."""

import contextlib
import gzip
import importlib
import io
import json
import os
import re
import socket
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest

import indexer.encode
from indexer.pipeline import index_sources
from indexer.progress import Summary
from retrieval.encoders.base import Encoder
from retrieval.library import Library, create_library, open_library

pytestmark = pytest.mark.slow

FORMATS = {"gif": "GIF", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "avif": "AVIF"}
ZEROS = bytes(100_000_000)
LARGE = "refused as too large"
HARDLY = "hardly anything of it can be decoded"

REASONS = {
    "cut at 10 percent.jpg": HARDLY,
    "cut at 20 percent.jpg": HARDLY,
    "text.jpg": "not an image of a known format",
    "page.png": "not an image of a known format",
    "zeros.jpg": "not an image of a known format",
    "only a beginning.jpg": "not an image of a known format",
    "empty.jpg": "the file is empty",
    "empty.nef": "the file is empty",
    "empty.svg": "the file is empty",
    "empty.heic": "the file is empty",
    "empty.mp4": "the file is empty",
    "empty.pdf": "the file is empty",
    "empty.txt": "the file is empty",
    "empty.csv": "the file is empty",
    "empty.jsonl": "the file is empty",
    "empty.parquet": "the file is empty",
    "200 megapixels.png": HARDLY,
    "canvas.gif": LARGE,
    "frame.gif": LARGE,
    "10 gigapixels.tif": LARGE,
    "most pixels.tif": LARGE,
    "10 gigapixels.bmp": LARGE,
    "laughs.svg": "entities that are not plain short text",
    "deep.svg": "nested too deep",
    "unclosed.svg": "broken XML",
    "uses.svg": "cannot be drawn",
    "compressed.svgz": LARGE,
    "garbage.nef": "not a readable RAW file",
    "text.cr3": "not a readable RAW file",
    "cut.dng": "not a readable RAW file",
    "cut.mp4": "no decoder is known for its video",
    "text.mp4": "cannot be opened as a video",
    "garbage.pdf": "not a PDF document, or a damaged one",
    "cut.pdf": "not a PDF document, or a damaged one",
    "encrypted.pdf": "protected by a password",
    "zeros.csv": "is not text",
    "without texts.csv": "has no column of texts",
    "twice.csv": "several columns of the same name",
    "deep.jsonl": "line 1: ",
    "binary.txt": "is not text",
    "no encoding.txt": "its encoding cannot be told for sure",
    "huge.html": "HTML of more than 20 MB",
    "garbage.parquet": "not Parquet that can be read",
    "leads nowhere.jpg": "no such file",
    "leads to itself.jpg": "too many levels of symbolic links",
    "leads around again.jpg": "too many levels of symbolic links",
    "leads around.jpg": "too many levels of symbolic links",
    "of somebody else.jpg": "permission denied",
    "closed": "cannot be listed: permission denied",
}
"""The bad files that must be listed, and what must be said of them."""

CUT = r"cut off(: about \d+ % of the picture could not be decoded|; the picture is there)"
NOTED = {
    **{f"cut at {tenth}0 percent.jpg": CUT for tenth in range(3, 10)},
    **{f"cut at {tenth}0 percent.png": CUT for tenth in range(1, 10)},
    **{f"cut.{ending}": CUT for ending in (*FORMATS, "heic")},
    "wrong sum.png": "a checksum of its IDAT is wrong",
    "compressed text.png": "its text is too long and was left out",
    "compressed international text.png": "its text is too long and was left out",
    "compressed profile.png": "its color profile is too long and was left out",
    "garbage exif.jpg": "its EXIF block is damaged",
    "garbage exif.png": "its EXIF block is damaged",
    "cut exif.jpg": "EXIF",
    "garbage profile.jpg": "its color profile is damaged",
    "ragged.csv": "line 3: 3 fields, where the first line names 2",
    "broken line.jsonl": "line 2: not JSON",
}
"""The bad files of which something can be read, and what must be said of the rest."""

TABLES = {"ragged.csv", "broken line.jsonl", "open quote.csv", "utf-16.csv"}
"""Those that have rows; their items are texts."""

PASSED_OVER = [
    "pipe.jpg",
    "socket.jpg",
    "zeros without end.jpg",
    "directory.jpg",
    "trailing blank.jpg ",
    "trailing dot.jpg.",
]
"""What is no file at all, or not of a kind that is looked for."""

GOOD = {
    "jpeg.png",
    "garbage exif.jpg",
    "cut exif.jpg",
    "endless exif.jpg",
    "garbage exif.png",
    "garbage profile.jpg",
    "line\nend.jpg",
    "\x1b[31mred\x07.jpg",
    os.fsdecode(b"caf\xe9 \xff\xfe.jpg"),
    "📷👨‍👩‍👧 \u202e\u0301.jpg",
    "l" * 251 + ".jpg",
    "blank .jpg",
    "dots...jpg",
    " .JPG",
    "-rf.jpg",
    "100%s\\.jpg",
}
"""Files with something wrong or odd that must be found all the same."""


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(width: int, height: int) -> bytes:
    """The header of a grey picture."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 99}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def mp4() -> bytes:
    """A short video, whose index comes last."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(20):
            picture = np.full((48, 64, 3), 10 * level, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def pdf(trailer: str = "") -> bytes:
    bodies = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
    )
    objects = "".join(f"{n} 0 obj\n{body}\nendobj\n" for n, body in enumerate(bodies, 1))
    return f"%PDF-1.7\n{objects}trailer\n<< /Root 1 0 R /Size 4 {trailer} >>\n%%EOF\n".encode()


def broken_pictures(noise: Callable[..., bytes]) -> Iterator[tuple[str, bytes]]:
    for ending, kind in (("jpg", "JPEG"), ("png", "PNG")):
        whole = noise(1000, kind)
        for tenth in range(1, 10):
            yield f"cut at {tenth}0 percent.{ending}", whole[: len(whole) * tenth // 10]
    for ending, kind in FORMATS.items():
        whole = noise(1001, kind)
        yield f"cut.{ending}", whole[: len(whole) // 2]
    pillow_heif.register_heif_opener()
    yield "cut.heic", noise(1002, "HEIF")[:-500]
    yield "text.jpg", b"This is no picture.\n"
    yield "page.png", b"<!doctype html><title>Not found</title>"
    yield "zeros.jpg", bytes(4096)
    yield "only a beginning.jpg", b"\xff\xd8\xff\xe0"
    whole = noise(1003, "PNG")
    yield "wrong sum.png", whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    for ending in ("jpg", "nef", "svg", "heic", "mp4", "pdf", "txt", "csv", "jsonl", "parquet"):
        yield f"empty.{ending}", b""
    yield "garbage.nef", np.random.default_rng(0).bytes(5000)
    yield "text.cr3", b"This is no picture.\n"
    yield "cut.dng", tiff(100, 100)[:60]


def bombs(noise: Callable[..., bytes]) -> Iterator[tuple[str, bytes]]:
    whole = noise(1004, "PNG")
    size = struct.pack(">II", 20_000, 10_001)
    yield "200 megapixels.png", whole[:8] + chunk(b"IHDR", size + b"\x08\x02\0\0\0") + whole[33:]
    for name, small, large in (("canvas", 1, 65_535), ("frame", 65_535, 1)):
        screen, frame = struct.pack("<HH", large, large), struct.pack("<HH", small, small)
        yield f"{name}.gif", b"GIF89a" + screen + bytes(3) + b",\0\0\0\0" + frame + b"\0\2\2D\1\0;"
    yield "10 gigapixels.tif", tiff(100_000, 100_000)
    yield "most pixels.tif", tiff(2**32 - 1, 2**32 - 1)
    header = struct.pack("<IiiHHIIiiII", 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "10 gigapixels.bmp", b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + header
    packed = zlib.compress(ZEROS, 9)
    for name, bomb in (
        ("text", chunk(b"zTXt", b"Comment\0\0" + packed)),
        ("international text", chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed)),
        ("profile", chunk(b"iCCP", b"profile\0\0" + packed)),
    ):
        yield f"compressed {name}.png", whole[:33] + bomb + whole[33:]
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    entities = f'<!DOCTYPE svg [<!ENTITY a0 "ha">{laughs}]>'
    yield "laughs.svg", f'{entities}<svg xmlns="http://www.w3.org/2000/svg">&a9;</svg>'.encode()
    yield "deep.svg", b"<svg>" + b"<g>" * 100_000 + b"</g>" * 100_000 + b"</svg>"
    yield "unclosed.svg", b"<svg><rect"
    groups = "".join(
        f'<g id="g{n}">{f"""<use href="#g{n - 1}"/>""" * 10}</g>' for n in range(1, 10)
    )
    drawing = f'<defs><g id="g0"><rect width="1" height="1"/></g>{groups}</defs><use href="#g9"/>'
    start = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
    yield "uses.svg", f"{start}{drawing}</svg>".encode()
    yield "compressed.svgz", gzip.compress(b"<svg>" + ZEROS)


def broken_documents() -> Iterator[tuple[str, bytes]]:
    yield "cut.mp4", mp4()[:-500]
    yield "text.mp4", b"This is no video.\n"
    yield "garbage.pdf", b"%PDF-1.7\ngarbage"
    yield "cut.pdf", pdf()[:60]
    key = "00" * 32
    protection = f"/Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4"
    yield "encrypted.pdf", pdf(f"/ID [<00> <00>] /Encrypt << {protection} >>")
    yield "ragged.csv", b"text,name\nfine,a\nragged,b,c\n"
    yield "open quote.csv", b'text\n"open\n'
    yield "zeros.csv", b"text\n\0\0\n"
    yield "without texts.csv", b"a,b\n1,2\n"
    yield "twice.csv", b"text,text\na,b\n"
    yield "utf-16.csv", "text\nfine\n".encode("utf-16")
    yield "broken line.jsonl", b'{"text": "fine"}\n{"text": \n'
    yield "deep.jsonl", b'{"text": ' + b"[" * 100_000
    yield "binary.txt", bytes(range(256)) * 4
    yield "no encoding.txt", b"\x81\x8d\x8f\x90" * 50
    yield "huge.html", b"<p>again</p>" * 2_000_000
    yield "garbage.parquet", b"PAR1" + np.random.default_rng(0).bytes(200) + b"PAR1"


def odd_pictures(noise: Callable[..., bytes]) -> Iterator[tuple[str, bytes]]:
    jpeg, png = noise(1005), noise(1006, "PNG")

    def with_segment(marker: bytes, data: bytes) -> bytes:
        return jpeg[:2] + marker + struct.pack(">H", len(data) + 2) + data + jpeg[2:]

    yield "jpeg.png", noise(1007)
    garbage = np.random.default_rng(1).bytes(200)
    yield "garbage exif.jpg", with_segment(b"\xff\xe1", b"Exif\0\0" + garbage)
    cut = b"MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\0\0\0\x01\xff\xff\xff\xff"
    yield "cut exif.jpg", with_segment(b"\xff\xe1", b"Exif\0\0" + cut)
    yield "endless exif.jpg", with_segment(b"\xff\xe1", b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\x08")
    yield "garbage exif.png", png[:33] + chunk(b"eXIf", b"garbage") + png[33:]
    yield "garbage profile.jpg", with_segment(b"\xff\xe2", b"ICC_PROFILE\0\1\1" + garbage)
    written = {"jpeg.png"} | {name for name in GOOD if " exif." in name or " profile." in name}
    for seed, name in enumerate(sorted(GOOD - written), start=1100):
        yield name, noise(seed)


def make_links_and_doors(folder: Path, photo: bytes) -> None:
    """What cannot be entered, opened, or followed to an end."""
    (folder / "leads nowhere.jpg").symlink_to("nowhere")
    (folder / "leads to itself.jpg").symlink_to("leads to itself.jpg")
    (folder / "leads around.jpg").symlink_to("leads around again.jpg")
    (folder / "leads around again.jpg").symlink_to("leads around.jpg")
    (folder / "the folder again").symlink_to(folder)
    (folder / "zeros without end.jpg").symlink_to("/dev/zero")
    (folder / "directory.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    # A socket's address may be no longer than 100 bytes, which a test's folder is.
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(folder):
        bound.bind("socket.jpg")
    for name in ("trailing blank.jpg ", "trailing dot.jpg.", "of somebody else.jpg"):
        (folder / name).write_bytes(photo)
    (folder / "closed").mkdir()
    (folder / "closed" / "photo.jpg").write_bytes(photo)


def make_deep_trees(folder: Path, photo: bytes) -> set[str]:
    """A photo 500 levels down; and below names that are together longer than a path may be."""
    deep = folder.joinpath("deep", *["d"] * 500)
    deep.mkdir(parents=True)
    (deep / "photo.jpg").write_bytes(photo)
    (folder / "long").mkdir()
    with contextlib.chdir(folder / "long"):
        for _ in range(20):
            os.mkdir("n" * 250)  # noqa: PTH102 - relative, since the whole would be too long
            os.chdir("n" * 250)
        Path("photo.jpg").write_bytes(photo)
    return {str(deep / "photo.jpg")}


class Run:
    """A folder of good and bad files, indexed by the command line, and what came of it."""

    def __init__(self, folder: Path, library: Path, good: set[str]) -> None:
        self.folder = folder
        self.library = library
        self.good = good
        self.summary: dict[str, int] = {}
        self.failures: dict[str, str] = {}
        self.notes: dict[str, str] = {}


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_checkpoint: Path,
    noise: Callable[..., bytes],
    add_photos: Callable[[Path, int], set[str]],
    settle: Callable[[Path], None],
    run_mmsearch: Callable[..., object],
) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("bad") / "folder"
    good = add_photos(folder, 200)
    for name, content in (*broken_pictures(noise), *bombs(noise), *broken_documents()):
        (folder / name).write_bytes(content)
    for name, content in odd_pictures(noise):
        (folder / name).write_bytes(content)
        good.add(str(folder / name))
    good |= {str(folder / name) for name in NOTED.keys() - TABLES}
    make_links_and_doors(folder, noise(1200))
    good |= make_deep_trees(folder, noise(1201))
    settle(folder)
    closed = [folder / "of somebody else.jpg", folder / "closed"]
    for path in closed:
        path.chmod(0)
    run = Run(folder, folder.with_name("library"), good)
    encoder = f"local-dir:{tiny_checkpoint}"
    options = ("--encoder", encoder, "--workers", 2, "--follow", "--json")
    done = run_mmsearch(run.library, "index", folder, *options)
    assert done.returncode == 0, done.stderr
    run.summary = json.loads(done.stdout)
    listed = run_mmsearch(run.library, "status", "--failed", "--notes", "--json")
    assert listed.returncode == 0, listed.stderr
    found = json.loads(listed.stdout)
    run.failures = {f["path"]: f["reason"] for f in found["failures"]}
    run.notes = {f["path"]: "; ".join(f["notes"]) for f in found["notes"]}
    yield run
    for path in closed:
        path.chmod(0o700)


def test_every_good_file_is_found(run: Run) -> None:
    hits = open_library(run.library).search("anything", k=10_000)
    assert {hit.path for hit in hits} == run.good
    assert run.summary["added"] == len(run.good) + len(TABLES) >= 200


def test_each_photo_has_its_own_vector(run: Run) -> None:
    """A bad file that shifted rows would let its neighbours be found in place of each other."""
    library = open_library(run.library)
    for path in sorted(run.good)[::20]:
        [hit] = library.search(image=path, k=1)
        assert hit.path == path
        assert hit.similarity == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", REASONS)
def test_a_bad_file_is_listed_with_its_reason(run: Run, name: str) -> None:
    assert re.search(REASONS[name], run.failures[str(run.folder / name)])


@pytest.mark.parametrize("name", NOTED)
def test_what_could_not_be_read_of_a_found_file_is_noted(run: Run, name: str) -> None:
    assert re.search(NOTED[name], run.notes[str(run.folder / name)])


def test_nothing_else_is_listed(run: Run) -> None:
    listed = {path.removeprefix(f"{run.folder}/") for path in run.failures}
    [too_long] = listed - REASONS.keys()
    assert too_long.startswith("long/nnn")
    assert "longer than this system can open" in run.failures[f"{run.folder}/{too_long}"]
    assert not listed & set(PASSED_OVER)
    assert run.summary["failed"] == len(listed) > 40
    assert {path.removeprefix(f"{run.folder}/") for path in run.notes} == NOTED.keys()
    assert run.summary["noted"] == len(NOTED)


def test_the_list_can_be_read_in_a_terminal(run: Run, run_mmsearch: Callable[..., object]) -> None:
    listed = run_mmsearch(run.library, "status", "--failed")
    assert listed.returncode == 0
    *lines, passed_over = listed.stdout.splitlines()
    assert len(lines) == len(run.failures)
    assert passed_over.startswith("2 files of other kinds passed over: ")
    assert not re.search(r"[^\n -~]", listed.stdout)


def test_a_second_run_reads_nothing(run: Run, run_mmsearch: Callable[..., object]) -> None:
    again = run_mmsearch(run.library, "index", "--json")
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout)
    assert summary["embedded"] == summary["added"] == summary["changed"] == summary["removed"] == 0
    assert summary["unchanged"] == len(run.good) + len(TABLES)
    assert summary["failed"] == len(run.failures)


FATEFUL_READING = """
import os, signal, time
from pathlib import Path
from indexer.decode import read_first as read_as_ever

def read_first(path, *args):
    fate = Path(path).stem
    if fate == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "hangs":
        time.sleep(600)
    if fate == "vanishes":
        Path(path).unlink()
    if fate == "becomes a pipe":
        Path(path).unlink()
        os.mkfifo(path)
    if fate == "becomes text":
        Path(path).write_bytes(b"This is no picture any more.")
    if fate == "becomes another":
        Path(path).write_bytes(Path(path).with_name("photo-2.jpg").read_bytes())
    return read_as_ever(path, *args)
"""
"""What befalls some files in the very process that reads them, just before it does."""

FATES = {
    "crashes": "crashed (signal SIGSEGV)",
    "is killed": "was killed (out of memory?)",
    "hangs": "was given up after 4 s",
    "vanishes": "no such file or directory",
    "becomes a pipe": "not a regular file any more",
    "becomes text": "not an image of a known format",
}


@pytest.fixture
def index_by_fate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_encoder: Encoder
) -> Callable[[Library, Path], Summary]:
    """Index a folder with readers that meet with accidents."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fateful_reading.py").write_text(FATEFUL_READING)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    fateful = importlib.import_module("fateful_reading")
    monkeypatch.setattr(indexer.encode, "read_first", fateful.read_first)
    yield lambda library, folder: index_sources(
        library, tiny_encoder, [folder], workers=2, limit_s=4, batch_size=8
    )
    del sys.modules["fateful_reading"]


def test_accidents_while_reading_cost_only_their_file(
    index_by_fate: Callable[[Library, Path], Summary],
    noise: Callable[..., bytes],
    settle: Callable[[Path], None],
    tmp_path: Path,
    tiny_encoder: Encoder,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    good = {str(folder / f"photo-{seed}.jpg") for seed in range(30)} | {
        str(folder / "becomes another.jpg")
    }
    for seed, path in enumerate([*sorted(good), *(str(folder / f"{f}.jpg") for f in FATES)]):
        Path(path).write_bytes(noise(seed))
    settle(folder)
    library = create_library(tmp_path / "library", tiny_encoder.space)

    summary = index_by_fate(library, folder)
    assert (summary.added, summary.failed) == (len(good), len(FATES))
    assert {hit.path for hit in library.search("anything", k=100)} == good
    with library.catalog.snapshot() as snapshot:
        reasons = {Path(f.path).stem: f.failure for f in snapshot.failures()}
    assert reasons.keys() == FATES.keys()
    for fate, reason in FATES.items():
        assert reason in reasons[fate]
    alike = library.search(image=folder / "photo-2.jpg", k=2)
    assert {Path(hit.path).stem for hit in alike} == {"photo-2", "becomes another"}

    # What crashed or hung has not changed, so that it would again; what is gone is forgotten.
    again = index_by_fate(library, folder)
    assert (again.embedded, again.failed, again.removed) == (0, 4, 2)
    assert again.unchanged == len(good)
