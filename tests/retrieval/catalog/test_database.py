from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import retrieval
from retrieval.catalog import SCHEMA_REVISION, Base, Catalog
from retrieval.catalog.schema import FileRecord
from retrieval.errors import DamagedLibraryError, LibraryError, LibraryLockedError


def is_in_models(name: str | None, kind: str, _parents: object) -> bool:
    """Whether a table is one of the models': the full-text index and the dialect have none."""
    others = ("file_words", "item_words", "catalog_state")
    return kind != "table" or not str(name).startswith(others)


def set_revision(catalog: Catalog, revision: str) -> None:
    with catalog.dialect.connect(write=True) as connection:
        connection.execute(
            sa.text("UPDATE alembic_version SET version_num = :it"), {"it": revision}
        )


def test_migrations_make_the_schema_of_the_models(catalog):
    with catalog.dialect.connect(write=False) as connection:
        context = MigrationContext.configure(connection, opts={"include_name": is_in_models})
        assert compare_metadata(context, Base.metadata) == []


def test_the_known_revision_is_the_newest_script():
    config = Config()
    scripts = Path(retrieval.__file__).parent / "catalog" / "migrations"
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def test_a_catalog_may_be_opened_by_its_url(catalog, location):
    with catalog.transaction() as transaction:
        transaction.add_sources({"/a": None})
    url = location if "://" in str(location) else f"sqlite:///{location}"
    again = Catalog(url)
    again.check_schema()
    again.migrate()
    with again.snapshot() as snapshot:
        assert snapshot.sources() == ["/a"]
    again.close()


def test_the_files_that_it_makes_have_the_names_that_it_tells(catalog, tmp_path):
    with catalog.dialect.writer(), catalog.transaction() as transaction:
        transaction.add_sources({"/a": None})
        names = [entry.name for entry in tmp_path.iterdir()]
    assert [name for name in names if not name.startswith(tuple(catalog.dialect.file_names))] == []


def test_the_version_changes_with_every_commit_of_anybody(catalog, location):
    second = Catalog(location)
    versions = [catalog.dialect.version()]
    for writer in (catalog, second, second):
        assert catalog.dialect.version() == versions[-1]
        with writer.transaction() as transaction:
            transaction.add_sources({f"/{len(versions)}": None})
        versions.append(catalog.dialect.version())
    assert len(set(versions)) == 4
    second.close()


def test_a_second_writer_is_told_so(catalog, location, monkeypatch):
    for dialect in ("sqlite", "postgresql.dialect"):
        monkeypatch.setattr(f"retrieval.catalog.dialects.{dialect}._BUSY_TIMEOUT_S", 0.05)
    second = Catalog(location)
    with (
        catalog.transaction(),
        pytest.raises(LibraryLockedError, match="locked by another process"),
        second.transaction(),
    ):
        pass
    second.close()


def test_only_one_may_hold_the_right_to_write(catalog, location):
    second = Catalog(location)
    with catalog.dialect.writer():
        with (
            pytest.raises(LibraryLockedError, match=r"Another process is writing to .*process \d+"),
            second.dialect.writer(),
        ):
            pass
        catalog.check_schema()
    with second.dialect.writer():
        pass
    second.close()


def test_a_catalog_that_does_not_exist_is_missed_and_not_made(location):
    catalog = Catalog(location)
    with pytest.raises(DamagedLibraryError, match="is missing"):
        catalog.check_schema()
    assert not catalog.dialect.exists()
    catalog.close()


def test_another_database_is_left_alone(location):
    catalog = Catalog(location)
    with catalog.dialect.connect(write=True) as connection:
        connection.execute(sa.text("CREATE TABLE mine (x INTEGER)"))
    with pytest.raises(DamagedLibraryError, match="not a catalog of mmsearch"):
        catalog.migrate()
    with pytest.raises(DamagedLibraryError, match="not a catalog of mmsearch"):
        catalog.check_schema()
    catalog.close()


def test_an_older_schema_is_not_read_without_an_upgrade(catalog):
    set_revision(catalog, "0000")
    with pytest.raises(LibraryError, match=r"older version.*mmsearch index"):
        catalog.check_schema()


def test_a_newer_schema_asks_for_an_upgrade(catalog):
    set_revision(catalog, "9999")
    with pytest.raises(LibraryError, match=r"newer version.*pip install -U mmsearch"):
        catalog.check_schema()


@pytest.mark.parametrize("revision", ["0002", "0003"])
def test_a_catalog_without_places_gets_those_of_its_coordinates(location, revision):
    """Made as an older version would, then upgraded."""
    catalog = Catalog(location)
    config = Config()
    scripts = Path(retrieval.__file__).parent / "catalog" / "migrations"
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    with catalog.dialect.connect(write=True) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for path, latitude, longitude in [
            (b"/paris.jpg", 48.8584, 2.2945),
            (b"/nowhere.jpg", 0.0, -30.0),
            (b"/unknown.jpg", None, None),
        ]:
            connection.execute(
                sa.text(
                    "INSERT INTO files (path, state, size, mtime_ns, latitude, longitude)"
                    " VALUES (:path, 'indexed', 1, 1, :latitude, :longitude)"
                ),
                {"path": path, "latitude": latitude, "longitude": longitude},
            )
    catalog.check_schema(upgrade=True)
    with catalog.dialect.connect(write=False) as connection:
        found = connection.execute(
            sa.select(FileRecord.path, FileRecord.place).order_by(FileRecord.id)
        ).all()
        words = connection.scalars(sa.text("SELECT camera FROM file_words ORDER BY rowid")).all()
    assert found[0].place.split("\n")[0] == "Paris"
    assert [file.place for file in found[1:]] == [None, None]
    assert any("paris" in (said or "") for said in words)
    catalog.close()
