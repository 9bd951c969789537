import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xxhash
from PIL import Image

from indexer import decode as reading
from indexer.decode import (
    ChangedWhileReadError,
    is_stable,
    read_first,
    read_metadata,
    read_on,
    reader_of,
)
from indexer.media.base import Decoded, ReadOptions
from retrieval.errors import UnreadableFileError
from retrieval.media import NO_METADATA, MediaKind
from retrieval.media.registry import FORMATS, UNNAMED_IMAGE
from retrieval.objects import opening

OPTIONS = ReadOptions()


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), "red").save(path)
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_a_file_gives_its_content_and_pieces(picture):
    content, read = read_first(str(picture), frozenset(), OPTIONS)
    assert content.size == picture.stat().st_size
    assert content.mtime_ns == 10**18
    assert content.hash == xxhash.xxh3_128_hexdigest(picture.read_bytes())
    [piece] = read.pieces
    assert (piece.locator.width, piece.locator.height) == (30, 20)


def test_known_content_is_not_decoded(picture):
    content, _ = read_first(str(picture), frozenset(), OPTIONS)
    again = read_first(str(picture), frozenset({content.hash}), OPTIONS)
    assert again == (content, None)


def total(image: Image.Image) -> int:
    return sum(image.tobytes())


@pytest.mark.parametrize("most_held", [0, 1 << 20])
def test_pictures_are_preprocessed_as_asked(picture, monkeypatch, most_held):
    monkeypatch.setattr(reading, "_MOST_HELD_BYTES", most_held)
    content, read = read_first(str(picture), frozenset(), ReadOptions(preprocess=total))
    assert [piece.payload for piece in read.pieces] == [30 * 20 * 255]
    assert content.hash == xxhash.xxh3_128_hexdigest(picture.read_bytes())
    assert read_on(str(picture), 1, content, ReadOptions(preprocess=total)).pieces == ()


def test_texts_are_not_preprocessed(tmp_path):
    (tmp_path / "text.txt").write_text("a dog")
    _, read = read_first(str(tmp_path / "text.txt"), frozenset(), ReadOptions(preprocess=total))
    assert read.pieces[0].payload == "a dog"


def test_hash_pixels_and_metadata_are_of_one_reading(picture, monkeypatch):
    opened, open_file = [], Path.open

    def counted(path, mode):
        opened.append(path)
        return open_file(Path(path), mode)

    monkeypatch.setattr(opening, "open", counted, raising=False)
    monkeypatch.setattr(Path, "open", counted)
    _, read = read_first(str(picture), frozenset(), OPTIONS)
    assert read.pieces
    assert len(opened) == 1


def test_a_fresh_time_is_not_trusted(picture):
    os.utime(picture)
    content, _ = read_first(str(picture), frozenset(), OPTIONS)
    assert content.mtime_ns == -1


def test_what_is_no_file_any_more_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="not a regular file"):
        read_first(str(tmp_path / "pipe.png"), frozenset(), OPTIONS)


def test_a_file_that_is_written_to_meanwhile_is_read_another_time(picture, monkeypatch):
    def reader_of(_format):
        def read(path, _start, _options):
            with Path(path).open("ab") as file:
                file.write(b"more")
            return Decoded(())

        return read

    monkeypatch.setattr(reading, "reader_of", reader_of)
    with pytest.raises(ChangedWhileReadError):
        read_first(str(picture), frozenset(), OPTIONS)


def test_the_rest_is_of_the_same_content(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("text\n" + "".join(f"caption {n}\n" for n in range(700)))
    os.utime(path, ns=(10**18, 10**18))
    content, first = read_first(str(path), frozenset(), OPTIONS)
    rest = read_on(str(path), first.next, content, OPTIONS)
    texts = [piece.payload for piece in (*first.pieces, *rest.pieces)]
    assert texts == [f"caption {n}" for n in range(700)]
    assert rest.next is None
    with path.open("a") as file:
        file.write("one more\n")
    with pytest.raises(ChangedWhileReadError):
        read_on(str(path), first.next, content, OPTIONS)


def test_what_cannot_be_read_says_why(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(UnreadableFileError, match="the file is empty"):
        read_first(str(path), frozenset(), OPTIONS)


def test_times_settle_after_the_coarsest_clock_step():
    now = time.time_ns()
    second = 1_000_000_000
    assert is_stable(now - 2 * second, now)
    assert not is_stable(now - second, now)
    assert not is_stable(now, now)
    assert is_stable(now + 3600 * second, now)


@pytest.mark.parametrize("form", [*FORMATS, UNNAMED_IMAGE], ids=lambda form: form.name)
def test_every_format_has_a_reader_of_its_kind(form):
    # That of videos also reads their sound.
    module = "sound_track" if form.kind is MediaKind.VIDEO else form.kind
    assert reader_of(form).__module__ == f"indexer.media.{module}"


def test_asking_for_readers_imports_nothing_heavy():
    program = (
        "import sys, indexer.decode as readers, retrieval.media.registry as formats\n"
        "[readers.reader_of(form) for form in formats.FORMATS]\n"
        "heavy = {'torch', 'av', 'pypdfium2', 'pyarrow', 'rawpy', 'pillow_heif', 'resvg_py'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("name", ["photo.jpg", "page.pdf", "clip.mp4"])
def test_metadata_is_read_alone_as_with_the_pieces(name, tmp_path):
    path = tmp_path / name
    if name == "clip.mp4":
        import av

        with av.open(str(path), "w") as container:
            container.metadata["title"] = "A title"
            stream = container.add_stream("mpeg4", rate=5)
            stream.width = stream.height = 32
            for _ in range(5):
                frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32)))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    elif name == "page.pdf":
        Image.new("RGB", (30, 20)).save(path, title="A title")
    else:
        exif = Image.Exif()
        exif[0x0132] = "2023:05:17 08:00:00"
        Image.new("RGB", (30, 20)).save(path, exif=exif)
    _, read = read_first(str(path), frozenset(), OPTIONS)
    assert read.metadata != NO_METADATA
    assert read_metadata(str(path)) == (read.metadata, ())


def test_texts_and_tables_have_no_dates_to_read(tmp_path):
    assert read_metadata(str(tmp_path / "notes.txt")) == (NO_METADATA, ())
