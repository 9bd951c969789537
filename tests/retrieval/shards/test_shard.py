"""Copies of the parts of a Lance table are shards: with the ids of the table, and as they grow."""

from pathlib import Path

import pytest

from indexer.pipeline import index_sources
from retrieval.encoders.base import Encoder
from retrieval.errors import UsageError
from retrieval.library import Library, open_library
from retrieval.search.joint import JointEngine
from retrieval.search.query import Query, Reranking, TextPart
from retrieval.shards.callers import LocalShards
from retrieval.shards.engine import ShardedJointEngine
from retrieval.shards.library import ShardedLibrary
from retrieval.shards.partition import read_facts, require_shards, shard_directories
from retrieval.shards.shard import Shard, ShardEngine

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")

_NONE = Reranking("none")


def _told(engine: JointEngine, k: int = 50) -> set[tuple[int, str, float]]:
    query = Query((TextPart("a picture"),), k=k, min_relevance=0)
    answer = engine.search(query, _NONE)
    return {(hit.item.id, hit.path, round(hit.similarity, 5)) for hit in answer}


@pytest.mark.slow
def test_parts_of_a_table_answer_as_its_whole_copy(
    indexed_library: Library, picture_folder: Path, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    from retrieval.lance.copies import open_copy
    from retrieval.lance.export import export_library
    from retrieval.lance.follower import first_copy
    from retrieval.lance.table import LanceTable

    location = f"lance:{tmp_path / 'table'}"
    export_library(indexed_library, location)
    whole = tmp_path / "whole"
    parts = shard_directories(tmp_path / "parts", 2)
    first_copy(location, whole)
    for index, part in enumerate(parts):
        first_copy(location, part, shard=(index, 2))
        facts = read_facts(part)
        assert facts
        assert (facts.index, facts.count) == (index, 2)
    require_shards(parts)
    with pytest.raises(UsageError, match="not all shards"):
        require_shards(parts[::-1])
    shards = []
    for part in parts:
        opened = open_library(part)
        space_id = opened.space().id
        shards.append(Shard(opened, {space_id: ShardEngine(opened, space_id=space_id)}))
    sharded = ShardedJointEngine(ShardedLibrary(LocalShards(shards)))
    alone = JointEngine(open_library(whole))
    assert len(_told(alone)) == 6
    assert _told(sharded) == _told(alone)
    assert sharded.main.facets() == alone.main.facets()

    first = next(picture_folder.rglob("*.png"))
    first.with_name("another.png").write_bytes(first.read_bytes() + b"\0")
    index_sources(indexed_library, tiny_encoder, [picture_folder])
    export_library(indexed_library, location)
    for index, part in enumerate([whole, *parts]):
        shard = (0, 1) if part is whole else (index - 1, 2)
        copy = open_copy(LanceTable.open(location), part, shard=shard)
        copy.update()
        copy.library.close()
    assert len(_told(alone)) == 7
    assert _told(sharded) == _told(alone)
    for library in (alone.library, sharded.library, *(shard.library for shard in shards)):
        library.close()
