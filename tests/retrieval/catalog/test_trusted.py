import json

import pytest

from retrieval.catalog.trusted import (
    CATALOGS,
    given_catalog,
    require_trusted_catalog,
)
from retrieval.errors import LibraryError, UsageError

URL = "postgresql://me@host/db?schema=photos"

pytest.importorskip("psycopg", reason="psycopg is not installed")


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(CATALOGS.variable, "")


def test_a_catalog_is_spelled_in_one_way():
    assert given_catalog("postgresql+psycopg://me@host/db?schema=photos") == URL
    assert given_catalog(URL) == URL
    assert given_catalog("postgresql:///db") == "postgresql:///db"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("postgresql://me:hidden@host/db", "Leave the password out.*PGPASSWORD"),
        ("host/db", "URL of a database"),
        ("sqlite:////tmp/x.sqlite", "SQLite needs no URL"),
        ("mysql://host/db", "Unsupported database"),
        ("postgresql://host/db?password=hidden", "Unknown options"),
    ],
)
def test_other_catalogs_are_refused(given, reason):
    with pytest.raises(UsageError, match=reason) as refused:
        given_catalog(given)
    assert "hidden" not in str(refused.value)


def test_only_what_was_named_is_trusted(tmp_path):
    with pytest.raises(LibraryError, match=r"never named.*Nothing was sent.*mmsearch trust '"):
        require_trusted_catalog(URL, tmp_path)
    CATALOGS.add(URL)
    require_trusted_catalog(URL, tmp_path)
    assert json.loads(CATALOGS.file.read_text()) == [URL]
    with pytest.raises(LibraryError):
        require_trusted_catalog(f"{URL}2", tmp_path)
    assert CATALOGS.remove(URL)
    assert not CATALOGS.remove(URL)
    assert CATALOGS.all() == []


def test_a_service_names_them_by_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv(CATALOGS.variable, f"{URL} postgresql://other/db")
    require_trusted_catalog("postgresql://other/db", tmp_path)
    require_trusted_catalog(URL, tmp_path)
    assert not CATALOGS.file.exists()
