"""`mmsearch mcp` where its package is missing; tests/api/mcp runs it."""

import sys


def test_a_missing_package_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    result = run("mcp")
    assert result.code == 2
    assert "mmsearch[mcp]" in result.err


def test_a_missing_library_is_told_before_it_speaks(run):
    result = run("mcp")
    assert (result.code != 0, result.out) == (True, "")
