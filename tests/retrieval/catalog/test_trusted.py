import json

import pytest

from retrieval.catalog.trusted import (
    VARIABLE,
    distrust_catalog,
    given_catalog,
    record_file,
    require_trusted_catalog,
    trust_catalog,
    trusted_catalogs,
)
from retrieval.errors import LibraryError, UsageError

URL = "postgresql://me@host/db?schema=photos"

pytest.importorskip("psycopg", reason="psycopg is not installed")


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")


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
    trust_catalog(URL)
    require_trusted_catalog(URL, tmp_path)
    assert json.loads(record_file().read_text()) == [URL]
    with pytest.raises(LibraryError):
        require_trusted_catalog(f"{URL}2", tmp_path)
    assert distrust_catalog(URL)
    assert not distrust_catalog(URL)
    assert trusted_catalogs() == []


def test_a_service_names_them_by_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, f"{URL} postgresql://other/db")
    require_trusted_catalog("postgresql://other/db", tmp_path)
    require_trusted_catalog(URL, tmp_path)
    assert not record_file().exists()


def test_a_damaged_record_trusts_nobody():
    record_file().parent.mkdir(parents=True, exist_ok=True)
    for content in ("{", "{}", "[1]", "\xff"):
        record_file().write_text(content)
        assert trusted_catalogs() == []


def test_without_a_home_it_holds_for_this_process(tmp_path, monkeypatch):
    (tmp_path / "mmsearch").write_text("a file where the folder would be")
    trust_catalog(URL)
    assert trusted_catalogs() == [URL]
