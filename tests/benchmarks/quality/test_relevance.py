"""What a threshold keeps and drops, on planted vectors and on real photos."""

from dataclasses import replace

import pytest

from benchmarks.quality.query_words import absent_queries
from benchmarks.quality.relevance import draw_reliability, measure_relevance
from retrieval.search.relevance import calibration_for
from retrieval.training.captions import read_captioned_photos
from retrieval.training.relevance import Quality, is_held_out

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(shared_data, starter, tmp_path_factory):
    """Forty held-out photos of Flickr8k, with their captions."""
    photos = read_captioned_photos(shared_data / "flickr8k", "val")
    held_out = [photo for photo in photos if is_held_out(photo.path.name)][:40]
    asked = [replace(photo, captions=photo.captions[:2]) for photo in held_out]
    calibrations = {kind: calibration_for(starter.space, kind) for kind in ("text", "image")}
    return measure_relevance(
        asked,
        [],
        starter,
        calibrations,
        tmp_path_factory.mktemp("vectors"),
        thresholds=(0.01, 0.1, 0.5),
        sizes=(20, 1000),
        absent=absent_queries("en")[:20],
        searches=300,
    )


def test_real_photos_stay_and_what_is_not_there_finds_little(measured):
    assert [row.rows for row in measured.thresholds] == [20] * 3 + [40] * 3
    for low, middle, high in (measured.thresholds[:3], measured.thresholds[3:]):
        assert middle.present_kept > 0.75
        assert middle.absent_few == 1
        assert middle.absent_none > 0.5
        assert low.present_kept >= middle.present_kept >= high.present_kept
        assert low.absent_none <= middle.absent_none <= high.absent_none
        assert middle.removed_none > middle.present_none
    assert measured.quality["text"].brier < measured.quality["text"].base
    assert measured.queries == 80


def test_photos_with_one_caption_ask_texts_only(shared_data, starter, tmp_path):
    photos = read_captioned_photos(shared_data / "imagenet-samples", "val")[:20]
    calibrations = {kind: calibration_for(starter.space, kind) for kind in ("text", "image")}
    result = measure_relevance(
        photos, [], starter, calibrations, tmp_path, thresholds=(0.1,), searches=100
    )
    assert list(result.quality) == ["text"]
    assert result.absent_texts == 0
    assert result.thresholds[0].absent_none is None
    assert result.thresholds[0].present_kept > 0.8


def test_the_texts_about_other_things_are_all_different():
    texts = absent_queries("en")
    assert len(texts) == len(set(texts)) == 60
    assert all(text.strip() == text and text for text in texts)


@pytest.mark.parametrize(("ending", "first"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_curve_is_drawn_with_empty_bins(tmp_path, ending, first):
    empty = float("nan")
    quality = Quality(3, 1, 0.1, 0.2, 0.05, (0.05, empty, 0.9), (0.1, empty, 1.0), (2, 0, 1))
    file = tmp_path / f"curve{ending}"
    draw_reliability({"text": quality, "image": quality}, file)
    assert file.read_bytes().startswith(first)
