import io
import tokenize
from pathlib import Path

import pytest

import retrieval.catalog
from retrieval.catalog import Catalog
from retrieval.errors import UsageError

CATALOG = Path(retrieval.catalog.__file__).parent
ONLY_IN_SQLITE = ("sqlite3", "PRAGMA", "MATCH", "json_each", "exec_driver_sql", "fts5", "bm25")


def spoken_elsewhere() -> list[tuple[str, str]]:
    """Modules outside of dialects, and what they say, comments left out, that only SQLite knows."""
    found = []
    for file in CATALOG.rglob("*.py"):
        place = file.relative_to(CATALOG)
        if place.parts[0] in {"dialects", "migrations"}:
            continue
        tokens = tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline)
        code = " ".join(t.string for t in tokens if t.type != tokenize.COMMENT)
        found += [(str(place), word) for word in ONLY_IN_SQLITE if word in code]
    return found


def test_only_the_dialect_speaks_sqlite():
    assert spoken_elsewhere() == []


@pytest.mark.parametrize("path", [str, Path])
def test_a_path_is_a_file_of_sqlite(tmp_path, path):
    catalog = Catalog(path(tmp_path / "a:b%20c.sqlite"))
    catalog.migrate()
    assert catalog.dialect.location == str(tmp_path / "a:b%20c.sqlite")
    assert catalog.dialect.exists()
    catalog.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://user:secret@host/db", "Unsupported database 'mysql'.*Supported: sqlite"),
        ("not a url://", "Invalid database URL"),
        ("postgresql://host:port/db", "Invalid database URL"),
        ("sqlite://", "Name the file"),
        ("sqlite:///:memory:", "Name the file"),
        ("sqlite:////tmp/x.sqlite?mode=ro", "without options"),
    ],
)
def test_other_urls_are_refused(url, reason):
    with pytest.raises(UsageError, match=reason) as refused:
        Catalog(url)
    assert "secret" not in str(refused.value)
