"""`mmsearch serve --cluster`: options that do not fit together are told before anything starts."""

from pathlib import Path

import pytest

from api.cli.serve import serve
from retrieval.errors import MMSearchError, UsageError
from retrieval.library import Library

pytest.importorskip("ray", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")


@pytest.mark.parametrize("options", [{"replicas": 2}, {"shards": 2}, {"shards_in": Path("x")}])
def test_options_need_a_cluster(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="add `--cluster local`"):
        serve(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"uploads": Path("x")},
        {"index_below": [Path("x")]},
        {"socket_only": True},
        {"idle_exit_minutes": 1.0},
    ],
    ids=str,
)
def test_what_only_one_process_can_do(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="is for a service without replicas"):
        serve(cluster="local", **options)  # type: ignore[arg-type]


def test_an_address_that_is_none(indexed_library: Library) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        serve([str(indexed_library.path)], cluster="ray://here")


def test_libraries_that_are_no_shards(indexed_library: Library, tmp_path: Path) -> None:
    given = [str(indexed_library.path), str(tmp_path)]
    with pytest.raises(UsageError, match="no shard"):
        serve(given, cluster="local")
    with pytest.raises(UsageError, match="several `--library` name shards"):
        serve(given, cluster="local", shards=2)


def test_other_machines_need_a_key(indexed_library: Library) -> None:
    with pytest.raises(UsageError, match="needs an API key"):
        serve([str(indexed_library.path)], cluster="local", host="0.0.0.0")


def test_a_library_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MMSearchError):
        serve([str(tmp_path / "none")], cluster="local")
