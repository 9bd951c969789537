import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval.encoders.base import Space
from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    LibraryLockedError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from retrieval.files import set_permissions
from retrieval.library import create_library, default_library_path, open_library
from retrieval.media import Modality

SPACE = Space("starter", "sha256:1", "squash", 8)
OTHER = Space("open_clip:ViT-B-32/x", "sha256:2", "crop", 16)


@pytest.fixture
def library(tmp_path):
    return create_library(tmp_path / "library", SPACE)


def test_a_created_library_opens_with_its_space(library):
    opened = open_library(library.path)
    assert opened.space() == SPACE
    assert opened.manifest == library.manifest
    assert opened.space_ids() == [SPACE.id]


def test_creating_twice_keeps_the_first(library):
    again = create_library(library.path, OTHER)
    assert again.space() == SPACE


def test_no_library_says_how_to_make_one(tmp_path):
    with pytest.raises(NotFoundError, match="mmsearch index"):
        open_library(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="is not a library"):
        open_library(tmp_path)


def test_a_directory_with_other_things_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(UsageError, match=r"not empty \(it contains 'thesis.docx'\)"):
        create_library(tmp_path, SPACE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "missing, unknown or wrong fields"),
        (b"format_version = ", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"format_version = 1\ndefault_space = 3\ncreated_by = ''", "default_space"),
        (b"format_version = 1\ndefault_space = 'x'\ncreated_by = ''\nextra = 1", "extra"),
    ],
)
def test_a_damaged_manifest_is_reported_and_kept(library, content, message):
    manifest = library.path / "library.toml"
    manifest.write_bytes(content)
    with pytest.raises(DamagedLibraryError, match=message):
        open_library(library.path)
    assert manifest.read_bytes() == content


def test_a_newer_format_asks_for_an_upgrade(library):
    (library.path / "library.toml").write_text("format_version = 2\nwhatever = true\n")
    with pytest.raises(LibraryError, match=r"newer version of mmsearch \(format 2"):
        open_library(library.path)


def test_a_missing_catalog_is_not_replaced_by_an_empty_one(library):
    library.close()
    (library.path / "catalog.sqlite").unlink()
    with pytest.raises(DamagedLibraryError, match=r"catalog.sqlite is missing"):
        open_library(library.path)
    assert not (library.path / "catalog.sqlite").exists()


def test_an_edited_space_is_reported(library):
    file = library.path / "spaces" / SPACE.id / "space.toml"
    file.write_text(file.read_text().replace("squash", "crop"))
    with pytest.raises(DamagedLibraryError, match="edited or damaged"):
        open_library(library.path)


def test_an_interrupted_creation_is_completed(library):
    (library.path / "library.toml").unlink()
    with pytest.raises(DamagedLibraryError, match="creation was interrupted"):
        open_library(library.path)
    assert create_library(library.path, SPACE).space() == SPACE


def test_another_encoder_is_refused_with_both_names_and_the_way_out(library):
    with pytest.raises(SpaceMismatchError) as error:
        library.require_space(OTHER)
    for expected in ("'starter'", "'open_clip:ViT-B-32/x'", "--space new", "--library"):
        assert expected in str(error.value)


def test_spaces_live_side_by_side(library):
    library.add_space(OTHER)
    assert library.space(OTHER.id) == OTHER
    assert library.space() == SPACE
    with pytest.raises(UsageError, match="has no space 'nonsense'"):
        library.space("nonsense")


def test_space_ids_are_stable_and_fit_for_a_file_name():
    assert SPACE.id == Space("starter", "sha256:1", "squash", 8).id
    assert SPACE.id != Space("starter", "sha256:1", "squash", 9).id
    assert OTHER.id.startswith("open-clip-vit-b-32-x-")


def test_a_second_writer_is_told_who_writes(library):
    program = (
        "import sys; from retrieval import open_library\n"
        "with open_library(sys.argv[1]).writer(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, library.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(LibraryLockedError, match=rf"process {other.pid} on"),
            library.writer(),
        ):
            pass
        other.kill()
    with library.writer():  # a killed process leaves no lock behind
        pass


def test_the_default_path_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MMSEARCH_LIBRARY", str(tmp_path))
    assert default_library_path() == tmp_path
    monkeypatch.delenv("MMSEARCH_LIBRARY")
    assert default_library_path().parent.name == "mmsearch"
    assert default_library_path() != Path(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * 50_000,
        "x = {" * 3_000,
        "a." * 20_000 + "b = 1",
        "a = 1" + "0" * 10_000,
        'a = "' + "x" * 1_000_000 + '"',
        "\ufeff",
        "format_version = true\ndefault_space = 'a'\ncreated_by = 'b'\n",
        "format_version = 0\ndefault_space = 'a'\ncreated_by = 'b'\n",
        f"format_version = 1\ndefault_space = '{'x' * 5000}'\ncreated_by = 'b'\n",
        "format_version = 1\ndefault_space = '../../../etc'\ncreated_by = 'b'\n",
        "format_version = 1\ndefault_space = '/etc'\ncreated_by = 'b'\n",
        "format_version = 1\ndefault_space = '..'\ncreated_by = 'b'\n",
        'format_version = 1\ndefault_space = "\\u0000"\ncreated_by = "b"\n',
        "encoder = 'starter'\nweights = 'x'\npreprocessing = 'x'\ndimension = -1\n",
        "encoder = 'starter'\nweights = 'x'\npreprocessing = 'x'\ndimension = 9999999999\n",
    ],
    ids=range(15),
)
@pytest.mark.parametrize("name", ["library.toml", f"spaces/{SPACE.id}/space.toml"])
def test_strange_toml_is_refused_in_a_short_message(library, name, text):
    (library.path / name).write_text(text)
    with pytest.raises(LibraryError) as error:
        open_library(library.path)
    assert len(str(error.value)) < 1000


def test_a_named_pipe_is_not_waited_for(library):
    (library.path / "library.toml").unlink()
    os.mkfifo(library.path / "library.toml")
    with pytest.raises(LibraryError, match="not a regular file"):
        open_library(library.path)


@pytest.mark.parametrize("name", ["../../other", "/etc", "a/b", "", ".", "x" * 5000, "a\0b"])
def test_a_space_is_no_path(library, name):
    if name:
        with pytest.raises(UsageError, match="has no space"):
            library.space(name)
    assert library.space(None) == SPACE


def modes(library) -> set[tuple[bool, int]]:
    """The permissions of all files and directories of a library, after something was written."""
    library.embeddings(SPACE, Modality.IMAGE).write(np.eye(8, dtype=np.float32), 0)
    library.tokens.put("reranker", "ab" * 16, np.ones((2, 3), np.float32))
    with library.writer(), library.catalog.transaction() as transaction:
        transaction.mark_removed([])
        found = [library.path, *library.path.rglob("*")]
        return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in found}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_library_is_its_owners_alone_unless_it_is_shared(tmp_path, umask):
    before = os.umask(umask)
    try:
        library = create_library(tmp_path / "library", SPACE)
        assert modes(library) == {(True, 0o700), (False, 0o600)}
        library.share()
        for file in library.path.glob("spaces/*/*.f16"):
            file.unlink()
        assert modes(library) == {(True, 0o2770), (False, 0o660)}
        library.close()
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_library_of_before_keeps_its_permissions(library):
    before = os.umask(0o022)
    try:
        set_permissions(library.path, 0o755)
        assert modes(library) == {(True, 0o755), (False, 0o644)}
        create_library(library.path, SPACE).close()
        assert modes(open_library(library.path)) == {(True, 0o755), (False, 0o644)}
    finally:
        os.umask(before)


def test_a_warning_that_passes_is_told_until_then(library):
    library.set_warning("table", "It is away.")
    library.set_warning("other", "Another one.")
    assert library.warnings == ["It is away.", "Another one."]
    library.set_warning("table", None)
    library.set_warning("unknown", None)
    assert library.warnings == ["Another one."]
