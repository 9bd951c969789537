import sys

import pytest
import sqlalchemy as sa

from retrieval.catalog import Catalog
from retrieval.catalog.dialects.postgresql.connection import application_name, new_engine
from retrieval.errors import UsageError


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"pip install 'mmsearch\[postgresql\]'"):
        Catalog("postgresql://host/db")


def test_a_process_says_who_it_is():
    assert application_name().startswith("mmsearch, process ")
    assert len(application_name()) < 64


@pytest.mark.slow
def test_columns_hold_what_those_of_sqlite_hold(new_schema):
    url = sa.make_url(new_schema())
    engine = new_engine(url)
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.String(2)),
        sa.Column("number", sa.Integer),
    )
    texts = ["ä", "B", "a", "Z", "雪", "longer than two"]
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(url.query["schema"]))
        table.create(connection)
        connection.execute(sa.insert(table), [{"text": t, "number": 2**40} for t in texts])
        found = connection.scalars(sa.select(table.c.text).order_by(table.c.text)).all()
        assert found == sorted(texts)
        assert connection.scalar(sa.select(sa.func.count()).where(table.c.number < 10**30)) == 6
        assert connection.scalar(sa.select(sa.func.count()).where(table.c.number < 1.5)) == 0
    engine.dispose()
