"""Transcripts over HTTP."""

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.recognition.base import Task
from retrieval.recognition.speech import SubtitlesAlone
from tests.made_speech import save_video

pytest.importorskip("av", reason="videos are read by PyAV")

SRT = "1\n00:00:01,000 --> 00:00:02,500\nTwo dogs & a cat.\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("films")
    save_video(folder / "spoken.mp4")
    (folder / "spoken.srt").write_text(SRT)
    save_video(folder / "silent-film.mp4")
    library = create_library(tmp_path_factory.mktemp("served") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    enrich(library, tiny_encoder, Task.SPEECH, SubtitlesAlone)
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        yield client


def item_of(client, name):
    items = client.get("/v1/items", params={"modality": "image"}).json()["items"]
    return next(item["item_id"] for item in items if item["path"].endswith(name))


@pytest.mark.parametrize(
    ("form", "content_type", "content"),
    [
        (
            "vtt",
            "text/vtt; charset=utf-8",
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nTwo dogs &amp; a cat.\n",
        ),
        ("srt", "application/x-subrip; charset=utf-8", SRT),
        ("txt", "text/plain; charset=utf-8", "Two dogs & a cat.\n"),
    ],
)
def test_a_transcript_as_a_file(client, form, content_type, content):
    answer = client.get(f"/v1/items/{item_of(client, 'spoken.mp4')}/transcript.{form}")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.text == content


def test_a_file_without_speech_has_none(client):
    item_id = item_of(client, "silent-film.mp4")
    answer = client.get(f"/v1/items/{item_id}/transcript.vtt")

    assert answer.status_code == 404
    assert answer.json()["detail"] == f"There is no transcript of the file of item {item_id}."


@pytest.mark.parametrize("path", ["/v1/items/999/transcript.vtt", "/v1/items/1/transcript.exe"])
def test_what_there_is_not(client, path):
    assert client.get(path).status_code in {404, 422}
