import pytest
import sqlalchemy as sa

from retrieval.catalog.dialects.postgresql.location import DEFAULT_SCHEMA, schema_of, shown
from retrieval.errors import UsageError


def url_with(schema: str) -> sa.URL:
    return sa.make_url("postgresql://host/db").set(query={"schema": schema})


@pytest.mark.parametrize("schema", ["photos", "_a1", "a" * 63, "public"])
def test_a_schema_is_named_by_the_url(schema):
    assert schema_of(url_with(schema)) == schema


def test_without_a_schema_there_is_one_all_the_same():
    assert schema_of(sa.make_url("postgresql://host/db")) == DEFAULT_SCHEMA


@pytest.mark.parametrize(
    "schema",
    ["", "a" * 64, "Photos", 'a"; DROP SCHEMA x; --', "a b", "é", "pg_x", "information_schema"],
)
def test_other_names_are_refused(schema):
    with pytest.raises(UsageError, match="A schema has one name"):
        schema_of(url_with(schema))


@pytest.mark.parametrize("option", ["password", "options", "service", "dbname"])
def test_options_that_could_say_anything_are_refused(option):
    url = sa.make_url("postgresql://host/db").set(query={option: "secret"})
    with pytest.raises(UsageError, match=f"Unknown options .*{option}") as refused:
        schema_of(url)
    assert "secret" not in str(refused.value)


def test_a_url_is_shown_without_its_password():
    url = sa.make_url("postgresql+psycopg2://me:secret@host:5433/db?schema=x&sslmode=require")
    written = shown(url)
    assert written == "postgresql://me@host:5433/db?schema=x&sslmode=require"
    assert shown(sa.make_url(written)) == written
