"""Recall and speed of one search."""

import numpy as np

from benchmarks.vectors.measurement import count_hits, measure_search
from benchmarks.vectors.peers import make_method


def test_hits_are_counted_wherever_they_stand():
    found = np.array([[3, 1, 2], [7, -1, -1]])
    truth = np.array([[1, 2, 9], [8, 7, -1]])
    assert count_hits(found, truth) == 3


def test_single_queries_and_batches_are_measured(workload):
    method = make_method("exact")
    index = method.open(workload.rows, workload.folder, "exact", threads=1)
    queries, truth = workload.queries()["text"], workload.truth()["text"]
    measured = measure_search(
        lambda some: method.search(index, workload.rows, some, 10, {}), queries, truth, 10
    )
    assert [(batch, recall) for batch, recall, _ in measured] == [(1, 1.0), (100, 1.0)]
