import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

import retrieval
from retrieval.catalog import Catalog, FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.dialects.sqlite import SQLite
from retrieval.catalog.fulltext.words import terms
from retrieval.catalog.schema import FILE_WORDS
from retrieval.errors import DamagedLibraryError, LibraryLockedError
from retrieval.media import MediaKind, Modality

SPACE = "space-1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


def migrations() -> Config:
    config = Config()
    scripts = Path(retrieval.__file__).parent / "catalog" / "migrations"
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    return config


def read_everything(catalog: Catalog) -> None:
    catalog.check_schema()
    with catalog.snapshot() as snapshot:
        snapshot.counts(SPACE)
        list(snapshot.files_below(["/"], SPACE))


@pytest.mark.parametrize("position", [0, 4096])
def test_a_corrupt_catalog_is_reported_and_not_overwritten(path, position):
    catalog = Catalog(path)
    catalog.migrate()
    files = [FileEntry(f"/{n}.jpg", MediaKind.IMAGE, 10, 1, str(n)) for n in range(500)]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, len(files))
        transaction.record_files(
            SPACE,
            [
                FileUpdate(file, [ItemEntry(Modality.IMAGE, row, width=4, height=3)])
                for row, file in enumerate(files)
            ],
        )
    catalog.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"\xde\xad" * 4000)
    damaged = path.read_bytes()
    again = Catalog(path)
    with pytest.raises(DamagedLibraryError, match=r"is damaged.*Nothing was overwritten"):
        read_everything(again)
    again.close()
    assert path.read_bytes() == damaged


def test_a_catalog_on_a_read_only_disk_is_read_without_a_file_beside_it(path, monkeypatch):
    catalog = Catalog(path)
    catalog.migrate()
    catalog.close()
    before = sorted(path.parent.iterdir())
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    again = Catalog(path)
    read_everything(again)
    again.dialect.version()
    again.close()
    assert sorted(path.parent.iterdir()) == before


def test_a_catalog_of_the_first_version_is_upgraded_with_its_items(path):
    config = migrations()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO sources VALUES (1, '/', 0)")
        connection.exec_driver_sql(
            "INSERT INTO files VALUES (1, CAST('/a.jpg' AS BLOB), 'indexed', NULL, 10, 1, 'a')"
        )
        connection.exec_driver_sql("INSERT INTO items VALUES (7, 1, 'image', 4, 3)")
        connection.exec_driver_sql(f"INSERT INTO rows VALUES ('{SPACE}', 7, 'image', 0, 'a')")
        connection.exec_driver_sql(f"INSERT INTO extents VALUES ('{SPACE}', 'image', 1)")
    engine.dispose()
    catalog = Catalog(path)
    catalog.check_schema(upgrade=True)
    with catalog.snapshot() as snapshot:
        [item] = snapshot.items_at(SPACE, Modality.IMAGE, [0])[0]
        [known] = snapshot.files_below(["/"], SPACE)
    catalog.close()
    assert (item.id, item.path, item.kind, item.part) == (7, "/a.jpg", MediaKind.IMAGE, "")
    assert known.embedded


def test_the_words_of_a_catalog_of_the_second_version_are_indexed(path):
    config = migrations()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        file = (
            "INSERT INTO files (id, path, state, size, mtime_ns, content_hash, kind, text) VALUES "
        )
        connection.exec_driver_sql(
            f"{file} (1, CAST('/sea/a.jpg' AS BLOB), 'indexed', 1, 1, 'a', 'image', 'Leuchtturm')"
        )
        connection.exec_driver_sql(
            f"{file} (2, CAST('/t.csv' AS BLOB), 'indexed', 1, 1, 't', 'table', NULL)"
        )
        item = "INSERT INTO items (id, file_id, modality, part, text, columns) VALUES "
        connection.exec_driver_sql(f"{item} (7, 1, 'image', '', NULL, NULL)")
        connection.exec_driver_sql(
            f"{item} (8, 2, 'text', 'r1', '海滩', json_object('tag', 'windy'))"
        )
        connection.exec_driver_sql(
            "INSERT INTO annotations VALUES "
            "(1, 2, CAST('/sea/a.jpg' AS BLOB), json_object('said', 'stormy'))"
        )
        connection.exec_driver_sql(
            "INSERT INTO sources (id, path, added_at) VALUES (1, CAST('/sea' AS BLOB), 1)"
        )
        connection.exec_driver_sql(f"INSERT INTO rows VALUES ('{SPACE}', 7, 'image', 0, 'a')")
        connection.exec_driver_sql(f"INSERT INTO rows VALUES ('{SPACE}', 8, 'text', 0, 't')")
    engine.dispose()
    catalog = Catalog(path)
    catalog.check_schema(upgrade=True)
    with catalog.snapshot() as snapshot:
        for modality, word in (
            *((Modality.IMAGE, word) for word in ("sea", "leuchtturm", "stormy")),
            *((Modality.TEXT, word) for word in ("海滩", "windy")),
        ):
            found = snapshot.text_matches(SPACE, modality, word, limit=2)
            assert [row for row, _ in found] == [0], word
    catalog.close()


def expression_of(text: str) -> str:
    query = SQLite.text_scores(FILE_WORDS, terms(text))
    [expression] = query.compile().params.values()
    return expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("dog beach ", '(("dog") OR ("beach"))'),
        ("dog bea", '(("dog") OR ("bea" OR "bea" *))'),
        ("a2 ", '(("a2" OR "a 2"))'),
        ("dogs ", '(("dogs" OR "dog"))'),
        ("大雪山", '(("大 雪") OR ("雪 山"))'),
        ("NEAR near", '(("near" OR "near" *))'),
    ],
)
def test_expressions_of_full_text_search(text, expression):
    assert expression_of(text) == expression


@given(st.text(min_size=1))
def test_no_text_is_syntax(text):
    if not terms(text):
        return
    expression = expression_of(text)
    for term in expression[1:-1].split(") OR ("):
        for phrase in term.removeprefix("(").removesuffix(")").split(" OR "):
            quoted = phrase.removesuffix(" *")
            assert quoted.startswith('"')
            assert quoted.endswith('"')
            assert not set(quoted[1:-1]) & set('"*():^-+\0')


READER = """
import os, sys
from pathlib import Path
from retrieval.catalog import Catalog
from retrieval.catalog.dialects import sqlite
import sqlalchemy.dialects.sqlite.pysqlite
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
catalog = Catalog(sys.argv[1])
for _ in sys.stdin:
    with catalog.dialect.connect(write=False) as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM sources").scalar()
    print(count, catalog.dialect.version(), catalog.dialect.warning is not None, flush=True)
"""


@pytest.fixture
def other_user(path):
    """Ask what another user, who may only read, sees: number of sources, version, warned."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can play another user")
    path.chmod(0o644)
    for folder in (path.parent, *path.parent.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
        if folder.name.startswith("pytest-of"):
            break
    path.parent.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask():
        process.stdin.write("?\n")
        process.stdin.flush()
        count, version, is_warned = process.stdout.readline().split()
        return int(count), int(version), is_warned == "True"

    with process:
        yield ask
        process.stdin.close()


@pytest.fixture
def made(path):
    """A catalog that was closed in good order, and how its owner adds a source."""
    owner = Catalog(path)
    owner.migrate()
    owner.close()

    def add(catalog, name):
        with catalog.dialect.connect(write=True) as connection:
            connection.exec_driver_sql(
                "INSERT INTO sources (path, added_at) VALUES (?, 0)", (name.encode(),)
            )

    return add


@pytest.mark.slow
def test_a_reader_without_write_permission_sees_what_the_owner_adds(path, made, other_user):
    count, version, is_warned = other_user()
    assert (count, is_warned) == (0, False)
    assert other_user()[1] == version
    seen = [version]
    for opening in range(3):
        owner = Catalog(path)
        for number in range(2):
            made(owner, f"/{opening}-{number}")
            count, version, is_warned = other_user()
            assert (count, is_warned) == (2 * opening + number + 1, False)
            seen.append(version)
        owner.close()
        assert other_user()[0] == 2 * opening + 2
    assert len(set(seen)) == len(seen)


@pytest.mark.slow
def test_a_reader_that_cannot_follow_the_log_is_warned(path, made, other_user):
    """As on a file system without shared memory: the file beside the log cannot be read."""
    owner = Catalog(path)
    made(owner, "/a")
    path.with_name(f"{path.name}-shm").chmod(0o600)
    assert other_user()[::2] == (0, True)
    owner.close()
    assert other_user()[::2] == (1, False)


def test_a_change_while_an_immutable_catalog_is_read_is_told(path, made, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)
        reader = Catalog(path)

    def read_meanwhile():
        with reader.snapshot():
            owner = Catalog(path)
            made(owner, "/a")
            owner.close()  # which writes the log into the file

    with pytest.raises(LibraryLockedError, match="changed by its owner"):
        read_meanwhile()
    with reader.snapshot() as snapshot:
        assert len(snapshot.sources()) == 1
    reader.close()
