import re

import pytest

from benchmarks.capacity.constants import constants
from benchmarks.capacity.measurements import bundled_measurements
from benchmarks.capacity.tables import (
    explanation,
    number_text,
    plan_text,
    plans_markdown,
    size_text,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.9, "1.00 kB"),
        (13_206, "13.2 kB"),
        (999_700, "1.00 MB"),
        (3.4e15, "3.40 PB"),
        (5e21, "5,000 EB"),
    ],
)
def test_sizes(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (13710.6, "13,711"), (23.82, "23.8"), (0.00312, "0.0031")]
)
def test_numbers(number, text):
    assert number_text(number) == text


def test_a_plan_names_its_parts(planned):
    text = plan_text(planned(10**9, encoder="ViT-L-14", texts=10**6))
    assert text.startswith(
        "1,000,000,000 images of 12 megapixels and 1,000,000 chunks of text, ViT-L-14, 768"
    )
    for heading in ("Embedding: ", "Bytes", "Searching: ", "Money", "One machine ends", "Commands"):
        assert re.search(f"^{heading}", text, re.MULTILINE)
    assert re.search(r"encode images +890  GPU-hours", text)
    assert "mmsearch serve --library" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_nothing_is_said_of_what_is_not_there(planned):
    text = plan_text(planned(10**6, thumbnails=None))
    assert "GPU" not in text
    assert "thumbnails " not in text


def test_plans_are_compared_in_columns(planned):
    lines = plans_markdown([planned(10**8), planned(10**9), planned(10**10)]).splitlines()
    assert {line.count("|") for line in lines} == {5}
    assert "100,000,000 images" in lines[0]
    assert any(line.startswith("| thumbnails (stored) |") for line in lines)
    assert not any("GPU-hours" in line for line in lines)


def test_the_explanation_names_every_source(planned):
    text = explanation(planned(encoder="ViT-L-14"), bundled_measurements())
    for constant in constants().values():
        assert constant.name in text
        assert constant.source in text
    assert "not measured here" in text
    assert "mmsearch bench throughput" in text
