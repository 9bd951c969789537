"""The table of the page's figures; `tests/api/cli/bench/test_page.py` measures."""

from benchmarks.service.page import PageResult, Scrolling, page_text


def test_the_table_has_medians_and_the_worst():
    scrolling = Scrolling(100, 16.7, 17.0, 50.0, nodes=600, pixels=9000)
    result = PageResult(
        hits=7000,
        cold_ms=[(200.0, 300.0), (100.0, 500.0), (120.0, 900.0)],
        warm_ms=[(90.0, 95.0)],
        library=scrolling,
    )
    lines = page_text(result).splitlines()
    assert lines[1].split() == ["cold", "tokens", "120", "200", "500", "900"]
    assert lines[2].split() == ["warm", "tokens", "90", "90", "95", "95"]
    assert lines[4].split() == ["7,000", "items", "16.7", "17.0", "50.0", "600"]
