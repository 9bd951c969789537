"""`mmsearch trust`: what libraries may use outside of themselves."""

import pytest

from retrieval.catalog.trusted import CATALOGS
from retrieval.encoders import trust
from retrieval.objects.trust import SOURCES


@pytest.fixture(autouse=True)
def no_record(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(trust, "_named", set())
    monkeypatch.setenv(CATALOGS.variable, "")


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
    monkeypatch.setenv(SOURCES.variable, "")
    assert run("trust", "s3://bucket/photos/").out == "s3://bucket/photos\n"
    assert run("trust", "--json").json == {"trusted": ["s3://bucket/photos"]}
    assert run("trust", "--remove", "s3://bucket/photos", "--json").json == {"trusted": []}
    assert run("trust", "--remove", "s3://bucket/photos").code == 1
    assert run("trust", "https://name:word@host/x").code == 2
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/nowhere")
    assert SOURCES.variable in run("trust", "s3://bucket").err


def test_where_nothing_can_be_recorded_the_variable_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/nowhere")
    result = run("trust", tmp_path)
    assert result.code == 1
    assert trust.VARIABLE in result.err


def test_a_catalog_is_allowed_listed_and_forgotten(run):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    url = "postgresql:///media?schema=photos"
    assert run("trust", url).out == f"{url}\n"
    assert run("trust", "--remove", url, "--json").json == {"trusted": []}
    assert run("trust", "--remove", url).code == 1
    result = run("trust", "postgresql://me:hidden@host/db")
    assert result.code == 2
    assert "hidden" not in result.out + result.err
