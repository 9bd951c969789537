import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity.measurements import (
    Decoding,
    Measurements,
    bundled_measurements,
    decoding_of,
    parse_measurements,
    read_measurements,
)
from retrieval.errors import UsageError

SIZES = (Decoding(0.05, 0.008, 17e3), Decoding(2, 0.018, 0.6e6), Decoding(12, 0.05, 3.4e6))


def throughput(encoder="starter", device="cpu", seconds=0.015, rate=60.0, megapixels=12.0):
    """What `mmsearch bench throughput --json` prints, as far as plans read it."""
    stage = {"rates": [rate, rate], "processor_s": [seconds, seconds]}
    size = {
        "encoder": encoder,
        "megapixels": megapixels,
        "file_bytes": 3e6,
        "stages": dict.fromkeys(("decode", "encode", "commit"), stage),
    }
    return {"encoder": encoder, "device": device, "sizes": [size]}


def test_the_bundled_measurements_are_whole_and_say_where_they_are_from():
    measured = bundled_measurements()
    assert [one.megapixels for one in measured.decoding] == [0.05, 2, 12]
    assert measured.encoding["starter"].resource == "core"
    assert measured.commit_core_s > 0
    assert [one.method.name for one in measured.vectors] == ["mmsearch", "mmsearch"]
    assert measured.filtering.row_s > 0
    assert all("mmsearch bench" in source for source in measured.sources.values())
    assert measured.sources.keys() == {"decoding", "vectors", "filtering"}


def test_a_file_of_the_user_replaces_what_it_measured_and_no_more(tmp_path):
    own = tmp_path / "mine.json"
    own.write_text(json.dumps(throughput("open_clip:ViT-L-14/openai", "cuda", rate=500.0)))
    measured, bundled = read_measurements([own]), bundled_measurements()
    assert measured.decoding == (Decoding(12, 0.015, 3e6),)
    assert measured.encoding["ViT-L-14"].resource == "gpu"
    assert measured.encoding["ViT-L-14"].seconds == pytest.approx(1 / 500)
    assert measured.encoding["starter"] == bundled.encoding["starter"]
    assert (measured.vectors, measured.filtering) == (bundled.vectors, bundled.filtering)


def test_the_fastest_runtime_of_an_encoder_counts():
    slow, fast = throughput(seconds=0.2), throughput(seconds=0.1)
    both = {**slow, "sizes": slow["sizes"] + fast["sizes"]}
    assert parse_measurements(both, "here").encoding["starter"].seconds == pytest.approx(0.1)


def test_photos_of_their_own_size_say_nothing_of_decoding():
    measured = parse_measurements(throughput(megapixels=None), "here")
    assert measured.decoding == ()
    assert "starter" in measured.encoding


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"sizes": []}',
        '{"sizes": [{"encoder": "starter"}]}',
        '{"timings": [], "items": 5}',
        '{"results": [{"dimension": 512, "methods": []}]}',
        json.dumps(throughput(seconds=0.0)),
        json.dumps(throughput(seconds=float("nan"))),
    ],
)
def test_files_of_no_such_benchmark_are_refused(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"--measured .*other\.json"):
        read_measurements([file])


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_measurements([tmp_path / "none.json"])


def test_measured_sizes_are_met_and_lines_run_between():
    for one in SIZES:
        assert decoding_of(one.megapixels, SIZES).core_s == pytest.approx(one.core_s)
    assert decoding_of(7, SIZES).core_s == pytest.approx((0.018 + 0.05) / 2)
    assert decoding_of(22, SIZES).core_s == pytest.approx(0.05 + 0.032)


@given(st.floats(0.001, 1000), st.floats(1.0, 10))
def test_larger_photos_take_no_less(megapixels, more):
    small, large = (decoding_of(size, SIZES) for size in (megapixels, megapixels * more))
    assert 0 < small.core_s <= large.core_s
    assert 0 < small.file_bytes <= large.file_bytes


def test_one_size_is_too_few():
    with pytest.raises(UsageError, match="at least two sizes"):
        decoding_of(12, SIZES[:1])


def test_nothing_replaces_what_was_not_measured():
    measured = bundled_measurements()
    assert measured.updated(Measurements()) == measured
    assert replace(measured, filtering=None).updated(measured) == measured
