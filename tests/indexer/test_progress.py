from indexer.progress import Summary


def test_the_rate_counts_vectors_and_is_none_where_no_time_passed():
    assert Summary(found=100, embedded=30, seconds=1.5).items_per_second == 20
    assert Summary(embedded=30).items_per_second == 0
