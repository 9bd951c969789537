import pytest

from benchmarks.speed.memory import MeasurementError, measure_memory


@pytest.mark.slow
def test_each_count_is_indexed_twice_in_processes_of_its_own(tiny_checkpoint):
    told = []
    results = measure_memory([9], f"local-dir:{tiny_checkpoint}", batch_size=4, on_run=told.append)
    assert results == told
    [result] = results
    assert result.images == 9
    assert 10**8 < result.ready_bytes <= result.process_peak_bytes
    assert result.second_run_peak_bytes > 10**8
    assert min(result.seconds, result.second_run_s) > 0


@pytest.mark.slow
def test_a_run_that_fails_is_told_with_what_it_printed():
    with pytest.raises(MeasurementError, match=r"(?s)5 images failed.*no-such-encoder"):
        measure_memory([5], "no-such-encoder")
