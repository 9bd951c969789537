import base64
import io

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings
from retrieval.recognition.captions.captioner import Captioner

RED = Image.new("RGB", (40, 30), "red")


def in_base64(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture(scope="module")
def described(coloured_library, tiny_captioner):
    """A service with an image-to-text model."""
    settings = ServiceSettings(captions=str(tiny_captioner("qwen2-vl")))
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_a_service_without_a_model_says_how_to_get_one(client):
    for path, body in (("describe", {"item": 1}), ("ask", {"item": 1, "question": "what?"})):
        answer = client.post(f"/v1/{path}", json=body)
        assert answer.status_code == 404
        assert "mmsearch serve --captions" in answer.json()["detail"]


@pytest.mark.slow
def test_images_and_items_are_described_as_the_model_does(described, tiny_captioner):
    captioner = Captioner(str(tiny_captioner("qwen2-vl")), device="cpu")
    answer = described.post("/v1/describe", json={"image": in_base64(RED), "max_tokens": 6})
    assert answer.json() == {"model": "qwen2-vl", "text": captioner.caption([RED], new_tokens=6)[0]}
    asked = {"image": in_base64(RED), "question": "how many dogs ?", "max_tokens": 6}
    expected = captioner.answer(RED, "how many dogs ?", new_tokens=6)
    assert described.post("/v1/ask", json=asked).json()["text"] == expected
    item = described.get("/v1/items").json()["items"][0]["item_id"]
    assert described.post("/v1/describe", json={"item": item, "max_tokens": 4}).json()["text"]
    begun = {"image": in_base64(RED), "prompt": "a ball", "max_tokens": 6}
    text = described.post("/v1/describe", json=begun).json()["text"]
    assert text == captioner.caption([RED], "a ball", new_tokens=6)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("describe", {}, 422),
        ("describe", {"item": 1, "image": "aaaa"}, 422),
        ("describe", {"image": base64.b64encode(b"no image").decode()}, 422),
        ("describe", {"item": 10**9}, 404),
        ("describe", {"item": 1, "max_tokens": 513}, 422),
        ("ask", {"item": 1}, 422),
        ("ask", {"item": 1, "question": " "}, 422),
        ("ask", {"item": 1, "question": "x" * 2001}, 422),
    ],
)
def test_wrong_requests_are_refused(described, path, body, status):
    assert described.post(f"/v1/{path}", json=body).status_code == status
