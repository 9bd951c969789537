import json

import pytest

from retrieval.encoders.base import Space
from retrieval.errors import DamagedLibraryError, LibraryError, UsageError
from retrieval.lance.schema import (
    BUCKETS,
    arrow,
    bucket_of,
    file_key_of,
    key_of,
    require_columns,
    schema_of,
    sources_of,
    space_of,
)

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


def test_the_schema_says_the_space_and_the_sources(space):
    sources = {"/photos": None, "/b\udcff": {"hidden": True}}
    metadata = schema_of(space, sources).metadata
    assert space_of(metadata, "lance:x") == space
    assert sources_of(metadata) == sources


def test_a_table_of_something_else_is_refused():
    with pytest.raises(UsageError, match="none that mmsearch wrote"):
        space_of({b"other": b"1"}, "lance:x")
    with pytest.raises(UsageError):
        space_of(None, "lance:x")


def test_a_newer_format_is_refused(space):
    metadata = dict(schema_of(space).metadata) | {b"mmsearch.format": b"2"}
    with pytest.raises(LibraryError, match="newer version"):
        space_of(metadata, "lance:x")


@pytest.mark.parametrize(
    "written",
    ["", "{", "[]", "{}", '{"encoder": 1}', json.dumps({"encoder": "a"}), "[" * 100_000],
)
def test_a_damaged_description_is_refused(space, written):
    metadata = dict(schema_of(space).metadata) | {b"mmsearch.space": written.encode()}
    with pytest.raises(DamagedLibraryError):
        space_of(metadata, "lance:x")
    if written not in {"{}", '{"encoder": 1}', json.dumps({"encoder": "a"})}:
        with pytest.raises(DamagedLibraryError):
            sources_of({b"mmsearch.source.2f61": written.encode()})


def test_a_damaged_path_of_a_source_is_refused():
    with pytest.raises(DamagedLibraryError):
        sources_of({b"mmsearch.source.zz": b"null"})


def test_a_space_of_impossible_dimensions_is_refused(space):
    facts = json.loads(schema_of(space).metadata[b"mmsearch.space"]) | {"dimension": -1}
    metadata = dict(schema_of(space).metadata) | {b"mmsearch.space": json.dumps(facts).encode()}
    with pytest.raises(DamagedLibraryError):
        space_of(metadata, "lance:x")


def test_keys_tell_items_apart():
    keys = {
        key_of(path, modality, part)
        for path in ("/a", "/a\udcff", "/a\\xff")
        for modality in (None, "image", "text")
        for part in ("", "p1", "imagep1")
    }
    assert len(keys) == 27
    assert file_key_of("/a\udcff") != file_key_of("/a\\xff")


def test_files_of_one_content_are_of_one_bucket():
    assert bucket_of("abc", "/a") == bucket_of("abc", "/b")
    assert bucket_of(None, "/a") == bucket_of("", "/a")
    buckets = [bucket_of(str(number), "") for number in range(2000)]
    assert set(buckets) <= set(range(BUCKETS))
    assert abs(sum(bucket < BUCKETS // 2 for bucket in buckets) - 1000) < 150


def test_the_dimension_is_that_of_the_space():
    assert schema_of(Space("toy", "w", "p", 32)).field("vector").type.list_size == 32


def test_a_table_without_the_columns_of_a_library_is_refused(space):
    pa = arrow()
    whole = schema_of(space)
    require_columns(whole.append(pa.field("of_a_later_version", pa.string())), space, "lance:x")
    place = whole.get_field_index("vector")
    for vectors in (
        pa.list_(pa.float32(), space.dimension),
        pa.list_(pa.float16(), space.dimension // 2),
        pa.list_(pa.float16()),
        pa.string(),
    ):
        with pytest.raises(DamagedLibraryError, match="no column 'vector' of the type"):
            require_columns(whole.set(place, pa.field("vector", vectors)), space, "lance:x")
    with pytest.raises(DamagedLibraryError, match="no column 'path'"):
        require_columns(whole.remove(whole.get_field_index("path")), space, "lance:x")
