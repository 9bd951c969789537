"""`mmsearch bench page` as users call it, with a real Chromium if there is one."""

import json
import os
import shutil

import pytest

from retrieval.errors import UsageError


@pytest.mark.slow
def test_the_page_is_measured_in_chromium(run, indexed_library, monkeypatch):
    name = os.environ.get("MMSEARCH_CHROMIUM", "chromium")
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}")
    result = run(
        *("page", "--library", indexed_library.path, "--rounds", 1, "--seconds", 1, "--json"),
        *("--query", "noise of kind 1"),
    )
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    for found, drawn in [*body["cold_ms"], *body["warm_ms"]]:
        assert 0 < found <= drawn
    assert body["library"]["frames"] > 5
    assert 0 < body["library"]["nodes"] < 2000


def test_it_says_what_is_missing(run, coloured_library):
    with pytest.raises(UsageError, match="There is no nowhere"):
        raise run("page", "--library", coloured_library.path, "--chromium", "nowhere").exception
