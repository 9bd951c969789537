"""`POST /v1/embed`."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from retrieval.media import Modality


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "at least one"),
        ({"texts": [" "]}, "texts"),
        ({"texts": ["x"] * 257}, "texts"),
        ({"images": ["no base64!"]}, "images"),
        ({"images": ["bm8gcGljdHVyZQ=="]}, "images.0"),
        ({"texts": ["x"], "frobnicate": 1}, "frobnicate"),
    ],
)
def test_what_cannot_be_embedded_is_refused(client, body, detail):
    answer = client.post("/v1/embed", json=body)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_vectors_are_the_encoders_in_the_order_of_the_request(client, tiny_encoder):
    pictures = [Image.new("RGB", (40, 40), colour) for colour in ("blue", "red")]
    contents = []
    for picture in pictures:
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        contents.append(base64.b64encode(stream.getvalue()).decode())
    body = client.post("/v1/embed", json={"texts": ["a dog", "一只狗"], "images": contents}).json()
    assert (body["space"], body["dimension"]) == (tiny_encoder.space.id, 32)
    expected = tiny_encoder.encode(Modality.TEXT, ["a dog", "一只狗"])
    np.testing.assert_allclose(body["texts"], expected, atol=1e-6)
    pixels = np.stack([tiny_encoder.preprocess(picture) for picture in pictures])
    expected = tiny_encoder.encode(Modality.IMAGE, pixels)
    np.testing.assert_allclose(body["images"], expected, atol=1e-6)
