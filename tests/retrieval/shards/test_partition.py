"""Shards hold each file once, with its id, and are made again only when the library has changed."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.catalog.partition import shard_of
from retrieval.errors import DamagedLibraryError, UsageError
from retrieval.indices.maintenance import committed_rows
from retrieval.library import Library, open_library
from retrieval.media import Modality
from retrieval.shards.partition import RowNumbers, make_shards, read_facts, require_shards


@pytest.fixture
def shards(library_with_copies: Library, tmp_path: Path) -> list[Library]:
    """Three shards of pictures, copies and texts."""
    return [open_library(path) for path in make_shards(library_with_copies, tmp_path / "in", 3)]


def test_each_item_is_in_the_shard_of_its_content(
    library_with_copies: Library, shards: list[Library]
) -> None:
    space_id = library_with_copies.space().id
    with library_with_copies.catalog.snapshot() as snapshot:
        expected = {item.id: item for item in snapshot.items(space_id, limit=100)}
    found = {}
    for number, shard in enumerate(shards):
        with shard.catalog.snapshot() as snapshot:
            for item in snapshot.items(space_id, limit=100):
                assert item.id not in found
                assert shard_of(item.content_hash, 3) == number
                found[item.id] = item
    assert found == expected


def test_each_row_is_in_one_shard_with_its_vector(
    library_with_copies: Library, shards: list[Library]
) -> None:
    space = library_with_copies.space()
    for modality in Modality:
        whole = committed_rows(library_with_copies, space, modality)
        seen = np.zeros(len(whole), np.int64)
        for shard in shards:
            rows = committed_rows(shard, space, modality)
            numbers = RowNumbers(shard).of(space.id, modality, len(rows))
            np.testing.assert_array_equal(rows, whole[numbers])
            file = shard.embeddings(space, modality)
            whole_file = library_with_copies.embeddings(space, modality)
            checksums = whole_file.checksums(len(whole))[numbers]
            np.testing.assert_array_equal(file.checksums(len(rows)), checksums)
            seen[numbers] += 1
        assert (seen == 1).all()


def test_words_and_catalog_are_those_of_the_shard_alone(shards: list[Library]) -> None:
    for shard in shards:
        assert shard.catalog.dialect.find_damage() == []
        with shard.catalog.snapshot() as snapshot:
            counts = snapshot.counts(shard.space().id)
            assert snapshot.document_counts([("file_words", (), None)]) == [counts.indexed]


def test_shards_are_kept_while_the_library_does_not_change(
    library_with_copies: Library, tmp_path: Path
) -> None:
    made = make_shards(library_with_copies, tmp_path / "in", 2)
    before = [path.stat().st_ino for path in made]
    make_shards(library_with_copies, tmp_path / "in", 2)
    assert [path.stat().st_ino for path in made] == before
    library_with_copies.hide([1])
    make_shards(library_with_copies, tmp_path / "in", 2)
    assert [path.stat().st_ino for path in made] != before
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [
        "shard-1-of-2",
        "shard-2-of-2",
    ]


def test_only_all_shards_of_one_library_are_served(
    library_with_copies: Library, tmp_path: Path
) -> None:
    first, second = make_shards(library_with_copies, tmp_path / "in", 2)
    require_shards([first, second])
    for wrong in ([second, first], [first], [first, first]):
        with pytest.raises(UsageError, match="not all shards of one library"):
            require_shards(wrong)
    with pytest.raises(UsageError, match="is no shard"):
        require_shards([first, library_with_copies.path])
    assert read_facts(library_with_copies.path) is None
    with pytest.raises(UsageError, match="1 to 1,024 shards"):
        make_shards(library_with_copies, tmp_path / "in", 0)


def test_numbers_of_rows_from_a_stranger_are_data(shards: list[Library]) -> None:
    shard = shards[0]
    space_id = shard.space().id
    file = shard.path / "spaces" / space_id / "image-rows.npy"
    for content in (np.array([3, 1]), np.array([0.5]), np.array([None])):
        np.save(file, content, allow_pickle=True)
        with pytest.raises(DamagedLibraryError):
            RowNumbers(shard).of(space_id, Modality.IMAGE, 1)
    file.unlink()
    with pytest.raises(DamagedLibraryError, match="does not number"):
        RowNumbers(shard).of(space_id, Modality.IMAGE, 1)
