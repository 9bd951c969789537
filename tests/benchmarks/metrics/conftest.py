"""Judgments small enough to be worked out by hand."""

import numpy as np
import pytest

from benchmarks.metrics import judge, judge_scores

PHOTOS = ["A", "B", "C"]
CAPTIONS = ["a1", "a2", "b1", "b2", "c1"]
# One row a caption, one column a photo. Caption c1 fits A and C equally: C goes first by its id.
SIMILARITIES = np.array(
    [
        [0.9, 0.1, 0.2],
        [0.3, 0.8, 0.4],
        [0.5, 0.6, 0.1],
        [0.7, 0.4, 0.2],
        [0.6, 0.5, 0.6],
    ],
    dtype=np.float32,
)
PHOTO_OF = {"a1": "A", "a2": "A", "b1": "B", "b2": "B", "c1": "C"}


@pytest.fixture
def text_to_image():
    qrels = {caption: {photo: 1} for caption, photo in PHOTO_OF.items()}
    return judge_scores(qrels, CAPTIONS, PHOTOS, SIMILARITIES)


@pytest.fixture
def image_to_text():
    qrels = {
        photo: {caption: 1 for caption in CAPTIONS if PHOTO_OF[caption] == photo}
        for photo in PHOTOS
    }
    return judge_scores(qrels, PHOTOS, CAPTIONS, SIMILARITIES.T)


@pytest.fixture
def judged():
    """Three queries: relevant items at ranks 1 and 4, at rank 2, and nowhere.

    The gains are 1 and 3, 2, and 1.
    """
    qrels = {"spread": {"a": 1, "d": 3}, "second": {"b": 2}, "lost": {"z": 1}}
    run = {query: {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0} for query in qrels}
    return judge(qrels, run)
