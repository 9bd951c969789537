import json
import os
from pathlib import Path

import pytest

from retrieval.encoders import trust
from retrieval.encoders.registry import load_encoder
from retrieval.errors import EncoderUnavailableError, LibraryError, SpaceMismatchError
from retrieval.library import create_library, open_library
from tests.conftest import write_checkpoint


@pytest.fixture(autouse=True)
def no_record(tmp_path, monkeypatch):
    """A user who has named nothing yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(trust, "_named", set())


@pytest.fixture
def strange_library(tmp_path, tiny_encoder, tiny_checkpoint):
    """A library with vectors of a folder that this user never named."""
    return create_library(tmp_path / "library", tiny_encoder.space)


def test_an_encoder_that_the_user_never_named_is_not_read(strange_library):
    with pytest.raises(EncoderUnavailableError, match=r"never named.*mmsearch trust"):
        strange_library.search("a dog")


def test_trusting_its_folder_is_the_one_step(strange_library, tiny_checkpoint):
    trust.trust(tiny_checkpoint)
    trust._named.clear()  # as in the next process
    assert len(strange_library.search("a dog")) == 0


def test_a_service_is_told_by_a_variable(strange_library, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv(trust.VARIABLE, f"/elsewhere:{tiny_checkpoint.parent}")
    assert len(strange_library.search("a dog")) == 0


def test_naming_an_encoder_trusts_it(strange_library, tiny_checkpoint):
    load_encoder(f"local-dir:{tiny_checkpoint}", "cpu")
    trust._named.clear()
    assert trust.trusted_paths() == [tiny_checkpoint]
    assert len(strange_library.search("a dog")) == 0


def test_naming_works_where_nothing_can_be_recorded(strange_library, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/nowhere")
    load_encoder(f"local-dir:{tiny_checkpoint}", "cpu")
    assert len(strange_library.search("a dog")) == 0


def test_a_folder_inside_a_library_is_named_as_such(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    folder = library.path / "thumbnails" / "model"
    folder.mkdir()
    with pytest.raises(EncoderUnavailableError, match=f"lies in the library {library.path}"):
        trust.require_trusted_encoder(f"local-dir:{folder}")


def test_nothing_of_the_folder_is_opened(tmp_path, tiny_encoder):
    """Not even its configuration: a named pipe would wait for a writer."""
    folder = tmp_path / "model"
    folder.mkdir()
    os.mkfifo(folder / "open_clip_config.json")
    with pytest.raises(EncoderUnavailableError, match="never named"):
        load_encoder(f"local-dir:{folder}", "cpu", weights="xxh3-128:00")


def test_other_weights_are_refused_before_the_tokenizer(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    trust.trust(write_checkpoint(folder, seed=3))
    with pytest.raises(SpaceMismatchError, match="checksum"):
        load_encoder(f"local-dir:{folder}", "cpu", weights="xxh3-128:00")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("local-dir:/models/a", "/models/a"),
        ("local-dir:/models/a@bf16", "/models/a"),
        ("local-dir:/me@home/a", "/me@home/a"),
        ("open_clip:ViT-B-32//models/w.pt", "/models/w.pt"),
        ("open_clip:ViT-B-32//models/w.pt@bf16", "/models/w.pt"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", None),
        ("starter", None),
    ],
)
def test_the_path_of_an_encoder(name, path):
    assert trust.path_of_encoder(name) == (path and Path(path))


def test_a_folder_beside_a_trusted_one_is_not_trusted(tmp_path):
    trust.trust(tmp_path / "model")
    assert trust.is_trusted(tmp_path / "model" / "part")
    assert not trust.is_trusted(tmp_path / "model-2")


def test_a_link_is_what_it_leads_to(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path)
    trust.trust(tmp_path / "mine")
    assert not trust.is_trusted(tmp_path / "mine" / "link" / "other")


@pytest.mark.parametrize("content", ["", "[", "[1, null]", '{"a": 1}', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_an_empty_one(tmp_path, content):
    trust.record_file().parent.mkdir(parents=True)
    trust.record_file().write_text(content, encoding="latin-1")
    assert not trust.is_trusted(tmp_path)
    trust.trust(tmp_path)
    assert json.loads(trust.record_file().read_text()) == [str(tmp_path)] or content == '{"a": 1}'


def test_what_is_trusted_can_be_forgotten(tmp_path):
    trust.trust(tmp_path)
    assert trust.distrust(tmp_path)
    assert not trust.is_trusted(tmp_path)
    assert not trust.distrust(tmp_path)


@pytest.mark.parametrize("name", ["spaces", "thumbnails", "tokens", "catalog.sqlite"])
def test_a_link_out_of_a_library_is_refused(tmp_path, strange_library, name):
    strange_library.close()
    inside, outside = strange_library.path / name, tmp_path / "outside"
    if inside.exists():
        inside.rename(outside)
    else:
        outside.mkdir()
    inside.symlink_to(outside)
    with pytest.raises(LibraryError, match=r"link that leads out.*mmsearch trust"):
        open_library(strange_library.path)
    trust.trust(outside)
    open_library(strange_library.path).close()


def test_a_link_of_a_space_is_refused(tmp_path, strange_library):
    strange_library.close()
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    (strange_library.space_directory(strange_library.space()) / "image.f16").symlink_to(secret)
    with pytest.raises(LibraryError, match="link that leads out"):
        open_library(strange_library.path)


def test_a_library_may_itself_be_a_link(tmp_path, strange_library):
    (tmp_path / "link").symlink_to(strange_library.path)
    open_library(tmp_path / "link").close()
