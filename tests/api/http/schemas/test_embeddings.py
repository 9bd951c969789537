"""Vectors as JSON, and the limits of what may be embedded at once."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from api.http.schemas.embeddings import MOST_IMAGES, MOST_TEXTS, EmbedRequest, rounded


@given(hnp.arrays(np.float32, (2, 3), elements={"min_value": -1, "max_value": 1}))
def test_numbers_are_those_of_float32_to_the_last_place(vectors):
    back = np.array(rounded(vectors), np.float32)
    assert back.shape == vectors.shape
    assert (np.abs(back - vectors) <= np.spacing(np.abs(vectors))).all()


def test_images_come_as_base64():
    content = bytes(range(256))
    request = EmbedRequest(images=[base64.b64encode(content)])
    assert request.images == [content]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"texts": [], "images": []},
        {"texts": [""]},
        {"texts": ["a dog", " \n"]},
        {"texts": ["x" * 10_001]},
        {"texts": ["x"] * (MOST_TEXTS + 1)},
        {"images": ["eA=="] * (MOST_IMAGES + 1)},
        {"images": [""]},
        {"images": ["x"]},
        {"texts": ["x"], "image": ["eA=="]},
    ],
)
def test_beyond_the_limits_nothing_is_embedded(wrong):
    with pytest.raises(ValidationError):
        EmbedRequest.model_validate(wrong)


def test_the_most_may_be_asked_for():
    EmbedRequest(texts=["x" * 10_000] * MOST_TEXTS, images=["eA=="] * MOST_IMAGES)
