"""`mmsearch bench gpu` as users call it."""

import pytest
import typer
from typer.testing import CliRunner

from api.cli.bench.gpu import gpu
from retrieval.errors import MMSearchError
from retrieval.indices.faiss.gpu import gpus


@pytest.mark.skipif(bool(gpus("cuda")), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_at_once():
    app = typer.Typer()
    app.command()(gpu)
    result = CliRunner().invoke(app, [])
    assert isinstance(result.exception, MMSearchError)
    assert "FAISS sees no GPU for 'cuda'" in str(result.exception)
