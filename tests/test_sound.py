"""Sounds, a video and pictures in one library, by tiny random models: all directions, end to end.

Random weights rank nothing, so that only what holds for any model is asserted.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner

import mmsearch
from api.cli.program import app
from api.http.app import create_app
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.encoders.registry import load_encoder
from retrieval.errors import UsageError
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.media.audio import cut_windows
from tests.tiny_clap import RATE, make_clap, tones, write_sound, write_video

pytest.importorskip("transformers", reason="CLAP is a model of transformers")
pytest.importorskip("av", reason="sounds are read by PyAV")
pytestmark = pytest.mark.slow

PITCHES = {"low.wav": (220, 330, 440), "high.flac": (3000,)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    for name, pitches in PITCHES.items():
        codec = "flac" if name.endswith("flac") else "pcm_s16le"
        write_sound(folder / name, tones(*pitches), codec=codec, artist=name.partition(".")[0])
    write_video(folder / "clip.mp4", tones(500, 1500, 2500, rate=48_000))
    (folder / "broken.ogg").write_bytes(b"OggS nonsense")
    (folder / "note.txt").write_text("rain on the sea")
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    return folder


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    return load_encoder(make_clap(tmp_path_factory.mktemp("clap")), "cpu")


@pytest.fixture(scope="module")
def path(folder, clap, tmp_path_factory):
    starter = load_encoder("starter", "cpu")
    path = tmp_path_factory.mktemp("library") / "library"
    library = create_library(path, starter.space)
    before = index_sources(library, starter, [folder])
    assert before.failed == 0
    assert any("3 sound files were left out" in note for note in before.notes)
    library.add_space(clap.space)
    after = index_sources(library, clap)
    assert (after.failed, after.notes) == (1, [])  # the broken one
    assert index_sources(library, starter).failed == 1  # and no note any more
    library.close()
    return path


@pytest.fixture(scope="module")
def library(path):
    with mmsearch.open(path) as library:
        yield library


def named(answer):
    return [(Path(hit.path).name, hit.item.start_s) for hit in answer]


def test_text_finds_sound_in_the_order_of_the_model(library, clap):
    found = library.search("rain", modality="audio", k=20)
    windows = {
        (name, float(start)): window
        for name, pitches in PITCHES.items()
        for start, window in enumerate(cut_windows(tones(*pitches), RATE, RATE))
    }
    vectors = clap.encode(Modality.AUDIO, list(windows.values()))
    cosines = dict(zip(windows, vectors @ clap.encode(Modality.TEXT, ["rain"])[0], strict=True))
    of_files = [place for place in named(found) if place in cosines]
    assert len(of_files) == len(cosines)
    similarity = {place: hit.similarity for place, hit in zip(named(found), found, strict=True)}
    for place, cosine in cosines.items():
        assert similarity[place] == pytest.approx(cosine, abs=0.01)
    assert [hit.similarity for hit in found] == sorted(similarity.values(), reverse=True)
    assert {start for name, start in named(found) if name == "clip.mp4"} == {0, 1, 2}


def test_sound_finds_itself_first(library, folder):
    for given in (folder / "high.flac", (folder / "high.flac").read_bytes()):
        first, *_ = library.search(audio=given, modality="any")
        assert (Path(first.path).name, first.item.modality) == ("high.flac", Modality.AUDIO)
        assert first.similarity > 0.99
    like = library.search(like=first, modality="audio")
    assert first.item.id not in {hit.item.id for hit in like}


def test_texts_lead_from_sound_to_pictures_and_back(library, folder):
    shown = library.search(audio=folder / "low.wav", modality="image")
    assert "red.png" in {name for name, _ in named(shown)}
    assert any('"rain on the sea"' in warning for warning in shown.warnings)
    heard = library.search(image=folder / "red.png", modality="audio")
    assert {hit.item.modality for hit in heard} == {Modality.AUDIO}
    assert heard.warnings
    [item] = [
        hit.item for hit in heard if (Path(hit.path).name, hit.item.start_s) == ("low.wav", 0)
    ]
    by_tags = library.search(like=item, modality="image")
    assert any('"low"' in warning for warning in by_tags.warnings)


def test_facets_count_sounds(library):
    facets = library.facets(modality="audio")
    assert {(one.value, one.count) for one in facets.columns["artist"]} == {("low", 3), ("high", 1)}


def test_a_library_of_pictures_says_how_to_take_sound(folder, tmp_path):
    with (
        mmsearch.create(tmp_path / "pictures", "starter") as pictures,
        pytest.raises(UsageError, match="--encoder clap:NAME_OR_DIR --space new"),
    ):
        pictures.search(audio=folder / "low.wav", modality="any")


def test_the_terminal_searches_by_a_sound(path, folder):
    arguments = ["search", "--audio", str(folder / "high.flac"), "--modality", "audio", "-f"]
    done = CliRunner().invoke(app, [*arguments, "--library", str(path), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == str(folder / "high.flac")


def test_the_service_finds_draws_and_plays_sounds(path, folder):
    settings = ServiceSettings(deadline_s=60)
    with TestClient(
        create_app(path, settings, device="cpu"), base_url="http://localhost"
    ) as service:
        content = (folder / "high.flac").read_bytes()
        answer = service.post(
            "/v1/search",
            files={"audio": ("a.flac", content)},
            data={"request": '{"modality": "any"}'},
        ).json()
        first = answer["hits"][0]
        assert (first["modality"], first["start_s"], first["end_s"]) == ("audio", 0, 1)
        assert first["path"].endswith("high.flac")
        address = f"/v1/items/{first['item_id']}/file"
        part = service.get(address, headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"fLaC")
        assert part.headers["content-type"] == "audio/flac"
        assert "media-src 'self'" in part.headers["content-security-policy"]
        picture = Image.open(io.BytesIO(service.get(first["thumbnail"]).content))
        assert np.asarray(picture.convert("L")).max() > 150
        listed = service.get("/v1/items", params={"modality": "audio"}).json()
        assert len(listed["items"]) == 7
        assert service.get("/v1/stats").json()["sounds"] == 7
        similar = service.get(f"/v1/items/{first['item_id']}/similar").json()
        assert {hit["modality"] for hit in similar["hits"]} == {"audio"}
