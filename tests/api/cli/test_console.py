"""What is printed for people."""

import os

import pytest
from PIL import Image


def test_searching_for_people_shows_rank_score_and_path(indexed, run, picture_folder, monkeypatch):
    monkeypatch.chdir(picture_folder)
    lines = run("search", "a dog", "-k", 2).out.splitlines()
    assert len(lines) == 2
    rank, relevance, score, path = lines[0].split(maxsplit=3)
    assert rank == "1"
    assert 0 <= int(relevance.removesuffix("%")) <= 100
    assert float(score) <= 1
    assert (picture_folder / path).exists()
    assert not path.startswith("/")


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
