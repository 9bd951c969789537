"""Which index a table gets, and that what is known of it comes back from the table."""

import json
import math
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoders.base import Space
from retrieval.errors import DamagedLibraryError, UsageError
from retrieval.indices.base import Effort
from retrieval.lance.index_settings import (
    INDEX,
    IVF_PQ,
    IVF_RQ,
    TableIndexSettings,
    choose_index,
    keep_settings,
    settings_of,
)
from retrieval.lance.table import LanceTable
from retrieval.media import Modality

pytestmark = pytest.mark.slow


def test_choice_by_size() -> None:
    assert choose_index(20_000, 512).kind is None
    small, large = choose_index(100_000, 512), choose_index(100_000_000, 512)
    assert (small.kind, small.partitions, small.parts) == (IVF_PQ, 316, 64)
    assert (large.kind, large.partitions, large.parts) == (IVF_RQ, 10_000, 0)
    # RaBitQ packs eight dimensions into a byte.
    assert choose_index(100_000_000, 100).kind == IVF_PQ


@given(rows=st.integers(256, 10**9), dimension=st.integers(1, 4096))
def test_choice_can_be_built(rows: int, dimension: int) -> None:
    choice = choose_index(rows, dimension, IVF_PQ)
    assert dimension % choice.parts == 0
    assert 1 <= choice.partitions <= rows // 256
    assert choice.partitions <= round(math.sqrt(rows))
    assert all(reason.endswith(".") for reason in choice.reasons)


@pytest.mark.parametrize(
    ("rows", "dimension", "kind", "partitions", "said"),
    [
        (1000, 8, "IVF_FLAT", None, "no kind 'IVF_FLAT'"),
        (100, 8, IVF_PQ, None, "at least 256 vectors"),
        (1000, 9, IVF_RQ, None, "that 8 divides"),
        (1000, 8, IVF_PQ, 4, "1,000 vectors can train 3 lists at most"),
    ],
)
def test_choice_that_cannot_be_built(
    rows: int, dimension: int, kind: str, partitions: int | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        choose_index(rows, dimension, kind, partitions)


def test_settings_come_back(tmp_path: Path) -> None:
    space = Space("toy", "sha256:0", "none", 8)
    table = LanceTable.create(f"lance:{tmp_path / 'table'}", space, {"/photos": {}})
    assert settings_of(table) is None
    efforts = {Modality.TEXT: Effort(16, 5, 0.98), Modality.IMAGE: Effort(8, 10, None)}
    kept = TableIndexSettings(IVF_RQ, 31, 0, 1000, 0.95, ("Because.",), efforts, 1.5, 2)
    keep_settings(table, kept)
    opened = LanceTable.open(table.location)
    assert settings_of(opened) == kept
    assert opened.space == space
    assert opened.sources == {"/photos": {}}
    assert kept.effort(Modality.TEXT) == efforts[Modality.TEXT]


@pytest.mark.parametrize(("name", "most"), [("nprobes", 2**31 - 1), ("refine_factor", 40)])
def test_efforts_that_would_take_all_memory_are_damage(
    tmp_path: Path, name: str, most: int
) -> None:
    table = LanceTable.create(f"lance:{tmp_path / 'table'}", Space("toy", "sha256:0", "none", 8))
    efforts = {Modality.TEXT: Effort(16, 5, 0.98)}
    facts = TableIndexSettings(IVF_RQ, 31, 0, 1000, 0.95, (), efforts).to_json()
    for value, is_damaged in ((most, False), (most + 1, True)):
        facts["efforts"]["text"][name] = value
        table.dataset.update_schema_metadata({INDEX: json.dumps(facts)})
        with pytest.raises(DamagedLibraryError) if is_damaged else nullcontext():
            settings_of(LanceTable.open(table.location))


@pytest.mark.parametrize("stored", ["", "[]", '{"efforts": {"text": {"nprobes": 0}}}', "[" * 9999])
def test_damaged_settings(tmp_path: Path, stored: str) -> None:
    space = Space("toy", "sha256:0", "none", 8)
    table = LanceTable.create(f"lance:{tmp_path / 'table'}", space)
    table.dataset.update_schema_metadata({INDEX: stored})
    with pytest.raises(DamagedLibraryError, match="says of its index what cannot be"):
        settings_of(LanceTable.open(table.location))
