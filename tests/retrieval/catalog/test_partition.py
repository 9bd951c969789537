"""Which shard has a content, and what is left of a catalog in one."""

from collections import Counter
from pathlib import Path

import pytest

from retrieval.catalog import Catalog
from retrieval.catalog.partition import keep_shard, shard_of
from retrieval.library import Library
from retrieval.media import Modality


def test_contents_are_shared_out_evenly() -> None:
    counts = Counter(shard_of(f"content {number}", 8) for number in range(8000))
    assert counts.keys() == set(range(8))
    assert max(counts.values()) < 1.2 * min(counts.values())
    assert shard_of("/not \udcff text", 3) in range(3)


@pytest.mark.parametrize("index", [0, 1])
def test_a_shard_keeps_ids_and_numbers_its_rows(
    library_with_copies: Library, tmp_path: Path, index: int
) -> None:
    library_with_copies.catalog.dialect.back_up(tmp_path / "copy.sqlite")
    copy = Catalog(tmp_path / "copy.sqlite")
    with copy.dialect.connect(write=True) as connection:
        extents = keep_shard(connection, index, 2)
    space_id = library_with_copies.space().id
    with copy.snapshot() as kept, library_with_copies.catalog.snapshot() as whole:
        items = kept.items(space_id, limit=100)
        assert items == [
            item
            for item in whole.items(space_id, limit=100)
            if shard_of(item.content_hash, 2) == index
        ]
        ids = [item.id for item in items]
        before, after = whole.item_rows(space_id, ids), kept.item_rows(space_id, ids)
        for item_id, (modality, row) in after.items():
            assert extents[space_id, modality][row] == before[item_id][1]
        for modality in Modality:
            assert kept.row_count(space_id, modality) == len(extents.get((space_id, modality), ()))
    copy.close()
