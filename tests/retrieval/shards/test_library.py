"""A library in shards is described as one, and only read."""

from collections.abc import Sequence
from typing import Any

import pytest

from retrieval.encoders.base import Space
from retrieval.errors import UsageError
from retrieval.shards.callers import Call
from retrieval.shards.library import ShardedLibrary

_SPACE = Space("toy", "sha256:0", "none", 8)


class _Shards:
    def __len__(self) -> int:
        return 2

    def call(self, calls: Sequence[Call]) -> list[Any]:
        told = {
            "spaces": [_SPACE],
            "default_space": _SPACE.id,
            "max_pixels": None,
            "calibrations": {_SPACE.id: "{}"},
        }
        return [
            told | {"warnings": ["same", f"of {call.shard}"], "sources": [f"/{call.shard}", "/a"]}
            for call in calls
        ]


def test_it_is_described_as_one() -> None:
    library = ShardedLibrary(_Shards())
    assert library.space() == library.space(_SPACE.id) == _SPACE
    assert library.space_ids() == [_SPACE.id]
    assert library.warnings == ["same", "of 0", "of 1"]
    assert library.missing() is None
    with library.catalog.snapshot() as snapshot:
        assert snapshot.sources() == ["/0", "/1", "/a"]
    assert (library.space_directory(_SPACE) / "relevance.json").read_text() == "{}"
    with pytest.raises(UsageError, match="no space"):
        library.space("other")
    library.close()
    assert not library.path.exists()


def test_it_is_only_read() -> None:
    library = ShardedLibrary(_Shards())
    with pytest.raises(UsageError, match="only read"):
        library.hide([1])
    library.close()
