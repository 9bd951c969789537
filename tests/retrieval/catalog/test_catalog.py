import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import retrieval
from retrieval.catalog import (
    SCHEMA_REVISION,
    Base,
    Catalog,
    FailedFile,
    FileState,
    FileUpdate,
    Modality,
    ReadFile,
    ReadItem,
    Transaction,
)
from retrieval.errors import DamagedLibraryError, LibraryError, LibraryLockedError
from retrieval.media import NO_METADATA, MediaKind, Metadata

SPACE = "space-1"


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite")
    catalog.migrate()
    yield catalog
    catalog.close()


def image(path: str, content: str = "a", mtime_ns: int = 1) -> ReadFile:
    return ReadFile(path, MediaKind.IMAGE, 10, mtime_ns, content)


def record(
    transaction: Transaction, images: list[ReadFile], first_row: int, space: str = SPACE
) -> None:
    """Record one picture a file, at rows that follow each other."""
    transaction.extend_rows(space, Modality.IMAGE, first_row, len(images))
    transaction.record_files(
        space,
        [
            FileUpdate(file, [ReadItem(Modality.IMAGE, row, width=4, height=3)])
            for row, file in enumerate(images, start=first_row)
        ],
    )


def paths_at(catalog: Catalog, *rows: int, space: str = SPACE) -> dict[int, list[str]]:
    with catalog.snapshot() as snapshot:
        found = snapshot.items_at(space, Modality.IMAGE, rows)
    return {row: [item.path for item in items] for row, items in found.items()}


def migrations() -> Config:
    config = Config()
    scripts = Path(retrieval.__file__).parent / "catalog" / "migrations"
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    return config


def is_in_models(name: str | None, kind: str, _parents: object) -> bool:
    """Whether a table is one of the models': the full-text index has none."""
    return kind != "table" or not str(name).startswith(("file_words", "item_words"))


def test_migrations_make_the_schema_of_the_models(catalog):
    engine = create_engine(f"sqlite:///{catalog.path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": is_in_models})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_known_revision_is_the_newest_script():
    assert ScriptDirectory.from_config(migrations()).get_current_head() == SCHEMA_REVISION


def test_items_are_found_at_their_rows(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg"), image("/b.jpg", "b")], 0)
    assert paths_at(catalog, 0, 1, 2) == {0: ["/a.jpg"], 1: ["/b.jpg"]}
    with catalog.snapshot() as snapshot:
        assert snapshot.row_count(SPACE, Modality.IMAGE) == 2
        assert snapshot.counts(SPACE).images == 2


def test_pictures_of_a_space_come_with_their_content(catalog):
    with catalog.transaction() as transaction:
        record(
            transaction, [image("/b.jpg", "b"), image("/a.jpg", "a"), image("/copy.jpg", "b")], 0
        )
        record(transaction, [image("/a.jpg", "a")], 0, "space-2")
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "new")], 3)
        transaction.mark_removed(["/copy.jpg"])
    with catalog.snapshot() as snapshot:
        found = [(item.path, item.content_hash) for item in snapshot.pictures(SPACE)]
        assert found == [("/b.jpg", "b"), ("/a.jpg", "new")]
        assert snapshot.pictures("space-2") == []
        assert snapshot.pictures("space-3") == []


def test_a_changed_file_keeps_its_item_and_leaves_its_old_row(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "old")], 0)
    with catalog.snapshot() as snapshot:
        [before] = snapshot.items_at(SPACE, Modality.IMAGE, [0])[0]
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "new")], 1)
    with catalog.snapshot() as snapshot:
        found = snapshot.items_at(SPACE, Modality.IMAGE, [0, 1])
    assert list(found) == [1]
    assert found[1][0].id == before.id


def test_a_row_of_older_content_is_not_found_in_another_space(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "old")], 0, "space-2")
        record(transaction, [image("/a.jpg", "new")], 0)
    assert paths_at(catalog, 0, space="space-2") == {}
    assert paths_at(catalog, 0) == {0: ["/a.jpg"]}


def test_removed_files_vanish_and_return_without_new_rows(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg")], 0)
        assert transaction.mark_removed(["/a.jpg", "/unknown.jpg"]) == 1
    assert paths_at(catalog, 0) == {}
    with catalog.snapshot() as snapshot:
        assert snapshot.item(1) is None
        [known] = snapshot.files_below(["/"], SPACE)
    assert known.state is FileState.REMOVED
    assert known.embedded
    with catalog.transaction() as transaction:
        transaction.record_touched([image("/a.jpg", mtime_ns=2)])
    assert paths_at(catalog, 0) == {0: ["/a.jpg"]}


def test_a_file_that_fails_is_listed_and_no_longer_found(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg")], 0)
        transaction.record_failures([FailedFile("/a.jpg", "truncated", 3, 4)])
    assert paths_at(catalog, 0) == {}
    with catalog.snapshot() as snapshot:
        assert snapshot.failures() == [FailedFile("/a.jpg", "truncated", 3, 4)]


def test_only_paths_below_the_root_are_below_it(catalog):
    paths = ["/a/b.jpg", "/a/b/c.jpg", "/ab.jpg", "/a", "/b.jpg"]
    with catalog.transaction() as transaction:
        record(transaction, [image(path) for path in paths], 0)
    with catalog.snapshot() as snapshot:
        assert {file.path for file in snapshot.files_below(["/a"], SPACE)} == {
            "/a",
            "/a/b.jpg",
            "/a/b/c.jpg",
        }
        assert len(list(snapshot.files_below(["/"], SPACE))) == len(paths)


@pytest.mark.parametrize(
    "name", ["/雪の犬.jpg", os.fsdecode(b"/not utf-8 \xff.jpg"), "/new\nline.jpg", "/100%_.jpg"]
)
def test_names_of_any_bytes_come_back(catalog, name):
    with catalog.transaction() as transaction:
        transaction.add_sources({name: None})
        record(transaction, [image(name)], 0)
    assert paths_at(catalog, 0) == {0: [name]}
    with catalog.snapshot() as snapshot:
        assert snapshot.sources() == [name]


def test_rows_out_of_turn_are_refused_and_rolled_back(catalog):
    def commit_out_of_turn() -> None:
        with catalog.transaction() as transaction:
            transaction.add_sources({"/a": None})
            record(transaction, [image("/a/b.jpg")], 5)

    with pytest.raises(DamagedLibraryError, match="5, but 0 are committed"):
        commit_out_of_turn()
    with catalog.snapshot() as snapshot:
        assert snapshot.sources() == []


def test_a_snapshot_neither_waits_for_a_writer_nor_sees_its_work(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg")], 0)
        assert paths_at(catalog, 0) == {}
    assert paths_at(catalog, 0) == {0: ["/a.jpg"]}


def test_a_second_writer_is_told_so(catalog, monkeypatch):
    monkeypatch.setattr("retrieval.catalog.database._BUSY_TIMEOUT_S", 0.05)
    second = Catalog(catalog.path)
    with (
        catalog.transaction(),
        pytest.raises(LibraryLockedError, match="locked by another process"),
        second.transaction(),
    ):
        pass
    second.close()


def test_many_files_go_through_one_transaction(catalog):
    images = [image(f"/photos/{number}.jpg", str(number)) for number in range(25_000)]
    with catalog.transaction() as transaction:
        record(transaction, images, 0)
        assert transaction.mark_removed([i.path for i in images[:12_000]]) == 12_000
    with catalog.snapshot() as snapshot:
        assert snapshot.counts(SPACE).images == 13_000
        assert len(snapshot.items_at(SPACE, Modality.IMAGE, range(25_000))) == 13_000


def read_everything(catalog: Catalog) -> None:
    catalog.check_schema()
    with catalog.snapshot() as snapshot:
        snapshot.counts(SPACE)
        list(snapshot.files_below(["/"], SPACE))


@pytest.mark.parametrize("position", [0, 4096])
def test_a_corrupt_catalog_is_reported_and_not_overwritten(catalog, position):
    with catalog.transaction() as transaction:
        record(transaction, [image(f"/{n}.jpg", str(n)) for n in range(500)], 0)
    catalog.close()
    with sqlite3.connect(catalog.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with catalog.path.open("r+b") as file:
        file.seek(position)
        file.write(b"\xde\xad" * 4000)
    damaged = catalog.path.read_bytes()
    again = Catalog(catalog.path)
    with pytest.raises(DamagedLibraryError, match=r"is damaged.*Nothing was overwritten"):
        read_everything(again)
    again.close()
    assert catalog.path.read_bytes() == damaged


def test_another_database_is_left_alone(tmp_path):
    path = tmp_path / "catalog.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(DamagedLibraryError, match="not a catalog of mmsearch"):
        Catalog(path).migrate()
    with pytest.raises(DamagedLibraryError, match="not a catalog of mmsearch"):
        Catalog(path).check_schema()


def test_an_older_schema_is_not_read_without_an_upgrade(catalog):
    with sqlite3.connect(catalog.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    with pytest.raises(LibraryError, match=r"older version.*mmsearch index"):
        catalog.check_schema()


def test_a_newer_schema_asks_for_an_upgrade(catalog):
    with sqlite3.connect(catalog.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(LibraryError, match=r"newer version.*pip install -U mmsearch"):
        catalog.check_schema()


def test_a_catalog_of_the_first_version_is_upgraded_with_its_items(tmp_path):
    path = tmp_path / "catalog.sqlite"
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


def test_the_words_of_a_catalog_of_the_second_version_are_indexed(tmp_path):
    path = tmp_path / "catalog.sqlite"
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


def video(content: str, *, is_first: bool = True, is_complete: bool = True, parts=("t0",), row=0):
    file = ReadFile("/v.mp4", MediaKind.VIDEO, 10, 1, content, Metadata(duration_s=2.5))
    items = [
        ReadItem(Modality.IMAGE, row + place, part, 4, 3, time_s=int(part[1:]) / 1000)
        for place, part in enumerate(parts)
    ]
    return FileUpdate(file, items, is_first=is_first, is_complete=is_complete)


def test_a_file_is_embedded_when_its_last_piece_is_recorded(catalog):
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 2)
        transaction.record_files(SPACE, [video("a", is_complete=False)])
        [known] = transaction.files_below(["/"], SPACE)
        assert not known.embedded
        assert transaction.reading_of(SPACE, MediaKind.VIDEO, "a") is None
        rest = video("a", is_first=False, parts=["t900"], row=1)
        rest = replace(rest, file=replace(rest.file, metadata=NO_METADATA))
        transaction.record_files(SPACE, [rest])
        [known] = transaction.files_below(["/"], SPACE)
        assert known.embedded
        metadata, items = transaction.reading_of(SPACE, MediaKind.VIDEO, "a")
        assert metadata.duration_s == 2.5  # the second step brought none
        assert [(item.part, item.row, item.time_s) for item in items] == [
            ("t0", 0, 0.0),
            ("t900", 1, 0.9),
        ]
        assert transaction.contents_of_size(SPACE, [10, 11]) == {10: {(MediaKind.VIDEO, "a")}}
        assert transaction.rows_of_contents(SPACE, ["a", "b"]) == {
            ("a", Modality.IMAGE, "t0"): 0,
            ("a", Modality.IMAGE, "t900"): 1,
        }


def test_frames_that_a_changed_video_no_longer_has_are_gone(catalog):
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 4)
        transaction.record_files(SPACE, [video("a", parts=["t0", "t5"])])
        [kept], [gone] = transaction.items_at(SPACE, Modality.IMAGE, [0, 1]).values()
        transaction.record_files(SPACE, [video("b", parts=["t0", "t7"], row=2)])
        found = transaction.items_at(SPACE, Modality.IMAGE, range(4))
        assert {row: item.part for row, [item] in found.items()} == {2: "t0", 3: "t7"}
        assert found[2][0].id == kept.id
        assert transaction.item(gone.id) is None


def test_a_moved_file_keeps_its_items(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg"), image("/b.jpg", "b")], 0)
        transaction.mark_removed(["/a.jpg"])
        assert not transaction.move_file("/a.jpg", "/b.jpg")
        assert transaction.move_file("/a.jpg", "/new.jpg")
    assert paths_at(catalog, 0) == {0: ["/new.jpg"]}
    with catalog.snapshot() as snapshot:
        assert snapshot.item(1).path == "/new.jpg"


def test_what_a_table_says_of_an_image_is_replaced_with_the_table(catalog):
    def table(content: str, **options) -> FileUpdate:
        file = ReadFile("/t.csv", MediaKind.TABLE, 10, 1, content)
        return FileUpdate(file, annotations=[("/a.jpg", {"content": content})], **options)

    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", mtime_ns=5_000_000_000)], 0)
        transaction.record_files(SPACE, [table("x", is_complete=False)])
        transaction.record_files(SPACE, [table("x", is_first=False)])
        [item] = transaction.pictures(SPACE)
        details = transaction.details(item)
        assert details.annotations == [{"content": "x"}, {"content": "x"}]
        assert details.taken_at == 5
        transaction.record_files(SPACE, [table("y")])
        assert transaction.details(item).annotations == [{"content": "y"}]
        transaction.mark_removed(["/t.csv"])
        assert transaction.details(item).annotations == []


def test_options_of_a_source_stay_until_others_are_told(catalog):
    with catalog.transaction() as transaction:
        transaction.add_sources({"/a": {"hidden": True}})
        transaction.add_sources({"/a": None, "/b": None})
        assert transaction.source_options() == {"/a": {"hidden": True}, "/b": None}
        transaction.add_sources({"/a": {"hidden": False}})
        assert transaction.source_options()["/a"] == {"hidden": False}
