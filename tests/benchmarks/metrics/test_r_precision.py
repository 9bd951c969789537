from benchmarks.metrics.r_precision import r_precision


def test_the_share_of_relevant_items_among_the_first_r(judged):
    assert r_precision(judged).tolist() == [1 / 2, 0, 0]
