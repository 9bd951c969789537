"""Results as Markdown."""

from dataclasses import replace

from benchmarks.vectors.growth import Cost, predict
from benchmarks.vectors.search import VectorResult
from benchmarks.vectors.tables import growth_markdown, methods_markdown


def test_a_method_has_its_costs_and_its_speed_at_a_recall(measured):
    table = methods_markdown(measured, [1], 0.95)
    assert "| some | IVF8,PQ8 | 10.0 | 16.7 | 100 | 80 | 72 | 1024 |" in table
    assert "| some | 350 | 350 | 350 | 350 |" in table
    assert "100 (0.990)" in methods_markdown(measured, [1], 0.999)


def test_memory_that_cannot_be_measured_here_is_a_question_mark(result_of):
    unknown = replace(result_of(), memory_bytes=None, mapped_bytes=None)
    table = methods_markdown(VectorResult("some data", 1000, 64, (unknown,)), [1], 0.95)
    assert "| 80 | ? | ? |" in table


def test_a_prediction_is_marked_as_one():
    costs = [Cost(rows, rows / 100, rows, rows, 1, 1) for rows in (1000, 10_000)]
    table = growth_markdown(predict(costs, 1_000_000))
    assert "| 10,000 | 100.0 | 0.0 | 0.0 | 1.00 | 1.00 |" in table
    assert "| 1,000,000 (predicted) | 10,000.0 | 1.0 | 1.0 | 1.00 | 1.00 |" in table
    assert "Powers of the number of rows: build_s 1.00, milliseconds 0.00" in table
