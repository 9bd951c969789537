import subprocess
import sys

import pytest

from indexer.media.registry import kind_of, reader_of
from retrieval.media import MediaKind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("photo.JPG", MediaKind.IMAGE),
        ("drawing.svg", MediaKind.IMAGE),
        ("raw.dng", MediaKind.IMAGE),
        ("/some/where/clip.Mp4", MediaKind.VIDEO),
        ("paper.pdf", MediaKind.DOCUMENT),
        ("notes.txt", MediaKind.TEXT),
        ("page.html", MediaKind.TEXT),
        ("rows.jsonl", MediaKind.TABLE),
        ("rows.parquet", MediaKind.TABLE),
        ("program.exe", None),
        ("no ending", None),
        (".jpg", None),
        ("folder.jpg/file", None),
    ],
)
def test_kinds_by_ending(name, kind):
    assert kind_of(name) is kind


@pytest.mark.parametrize("kind", MediaKind)
def test_every_kind_has_its_own_reader(kind):
    assert reader_of(kind).__module__ == f"indexer.media.{kind}"


def test_asking_for_kinds_and_readers_imports_nothing_heavy():
    program = (
        "import sys, indexer.media.registry as f\n"
        "f.kind_of('a.jpg'), [f.reader_of(kind) for kind in f.MediaKind]\n"
        "heavy = {'torch', 'av', 'pypdfium2', 'pyarrow', 'rawpy', 'pillow_heif', 'resvg_py'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"
