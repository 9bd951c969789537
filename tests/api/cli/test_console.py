"""What is printed for people."""

import os

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from api.cli.console import display_path, file_counts, place_in_file, print_summary
from indexer.progress import Summary
from retrieval.catalog import Item
from retrieval.media import MediaKind, Modality


def test_names_that_are_not_utf8_are_printed(run, encoder_name, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    try:
        Image.new("RGB", (9, 9)).save(folder / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system wants valid UTF-8")
    assert run("index", folder, "--encoder", encoder_name).code == 0
    assert "caf\\xe9.png" in run("search", "x").out
    [hit] = run("search", "x", "--json").json["hits"]
    assert os.fsencode(hit["path"]).endswith(b"caf\xe9.png")


@given(st.text(), st.sampled_from(["", "/"]))
def test_no_path_steers_the_terminal(name, root):
    """Escape sequences in names could move the cursor, or change what was printed before."""
    assume("\0" not in name and not any("\ud800" <= c <= "\udfff" for c in name))
    assert display_path(root + name).isprintable()


def test_paths_below_the_current_directory_are_relative(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert display_path(str(tmp_path / "here" / "a" / "b.png")) == os.path.join("a", "b.png")  # noqa: PTH118
    beside = str(tmp_path / "here-too" / "b.png")
    assert display_path(beside) == beside


@pytest.mark.parametrize(
    ("facts", "place"),
    [
        ({}, ""),
        ({"page": 3}, "  page 3"),
        ({"time_s": 65.9}, "  at 1:05"),
        ({"time_s": 3600.0}, "  at 60:00"),
        ({"time_s": 44.0, "start_s": 41.2, "end_s": 47.5}, "  at 0:41–0:47"),
        ({"time_s": 41.5, "start_s": 41.2, "end_s": 41.9}, "  at 0:41"),
        ({"page": 1, "text": "two\nlines\x1b[31m"}, "  page 1  two lines [31m"),
        ({"text": "word " * 40}, "  " + "word " * 19 + "..."),
    ],
)
def test_the_place_in_a_file_is_a_few_words(facts, place):
    item = Item(1, "/x", MediaKind.DOCUMENT, Modality.IMAGE, "h", 1, 1, **facts)
    assert place_in_file(item) == place


def test_counts_that_are_zero_are_left_out():
    summary = Summary(added=1200, failed=2, unchanged=5)
    assert file_counts(summary, ("added", "changed", "failed")) == "1,200 added, 2 failed"
    assert file_counts(Summary(), ("added", "failed")) == ""


def test_a_summary_names_a_store_as_it_was_given(capsys):
    print_summary(Summary(), "lance+s3://bucket/library")
    assert "Library: lance+s3://bucket/library\n" in capsys.readouterr().out
