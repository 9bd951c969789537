"""`mmsearch trust`: what libraries may use outside of themselves."""

import pytest

from retrieval.encoders import trust
from retrieval.objects import trust as sources


@pytest.fixture(autouse=True)
def no_record(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(trust, "_named", set())


def test_a_path_is_allowed_listed_and_forgotten(run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert run("trust", folder).out == f"{folder}\n"
    assert run("trust", "--json").json == {"trusted": [str(folder)]}
    assert run("trust", "--remove", folder, "--json").json == {"trusted": []}


def test_what_is_not_there_is_an_error(run, tmp_path):
    assert run("trust", tmp_path / "nothing").code == 1
    assert run("trust", "--remove", tmp_path).code == 1
    assert run("trust", "--remove").code == 2


def test_a_source_on_a_server_is_allowed_listed_and_forgotten(run, monkeypatch):
    monkeypatch.setenv(sources.VARIABLE, "")
    assert run("trust", "s3://bucket/photos/").out == "s3://bucket/photos\n"
    assert run("trust", "--json").json == {"trusted": ["s3://bucket/photos"]}
    assert run("trust", "--remove", "s3://bucket/photos", "--json").json == {"trusted": []}
    assert run("trust", "--remove", "s3://bucket/photos").code == 1
    assert run("trust", "https://name:word@host/x").code == 2
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/nowhere")
    assert sources.VARIABLE in run("trust", "s3://bucket").err


def test_where_nothing_can_be_recorded_the_variable_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/nowhere")
    result = run("trust", tmp_path)
    assert result.code == 1
    assert trust.VARIABLE in result.err
