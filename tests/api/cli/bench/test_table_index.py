"""`mmsearch bench table-index` as users call it."""

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytest.importorskip("ray", reason="needs Ray: pip install 'mmsearch[cluster]'")

from api.cli.bench.table_index import table_index
from retrieval.errors import UsageError

pytestmark = pytest.mark.slow


def test_wrong_cluster(tmp_path) -> None:
    app = typer.Typer()
    app.command()(table_index)
    words = ["--rows", "300", "--dimension", "16", "--queries", "100", "--cache", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--cluster", "nowhere"])
    assert isinstance(result.exception, UsageError)
    assert "not the address of a cluster" in str(result.exception)
