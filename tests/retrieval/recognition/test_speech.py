"""Speech, heard by a tiny Whisper through the whole of faster-whisper."""

import logging

import numpy as np
import pytest

from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.recognition import sound_parts
from retrieval.recognition.base import Recognized, SpeechRecognizer, Task, tidy
from retrieval.recognition.speech import (
    WhisperRecognizer,
    _Clock,
    load_recognizer,
    name_and_language,
)
from tests.made_speech import RATE, SAID, babble, save_model, save_sound, save_video, silence

pytest.importorskip("faster_whisper", reason="speech is heard by faster-whisper")


@pytest.fixture(scope="module")
def whisper(whisper_folder):
    return load_recognizer(str(whisper_folder))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Four seconds of speech after six of silence."""
    folder = tmp_path_factory.mktemp("spoken")
    return save_sound(folder / "spoken.wav", silence(6), babble(4, 1))


@pytest.mark.slow
def test_what_is_said_has_times_of_the_file_and_a_confidence(whisper, spoken):
    told: list[float] = []

    heard = whisper.transcribe(str(spoken), on_progress=told.append)

    assert [segment.text for segment in heard.segments] == [text for text, _, _ in SAID]
    starts = [segment.start_s for segment in heard.segments]
    ends = [segment.end_s for segment in heard.segments]
    # The model's times count from where the detector hears speech, less its margin of 0.4 s.
    assert 5.5 < starts[0] < 6.0
    assert starts[1] - starts[0] == pytest.approx(SAID[1][1] - SAID[0][1], abs=0.02)
    assert ends[1] - starts[1] == pytest.approx(SAID[1][2] - SAID[1][1], abs=0.02)
    assert all(0.9 < segment.confidence <= 1 for segment in heard.segments)
    assert told == sorted(told)
    assert told[-1] == 10.0
    assert tidy(heard).segments
    assert isinstance(whisper, SpeechRecognizer)
    assert whisper.task is Task.SPEECH


@pytest.mark.slow
def test_the_sound_track_of_a_video_is_heard(whisper, tmp_path):
    path = save_video(tmp_path / "film.mp4", np.concatenate([silence(2), babble(3, 2)]), 5)

    heard = whisper.transcribe(str(path))

    assert heard.text == "\n".join(text for text, _, _ in SAID)
    assert 1.5 < heard.segments[0].start_s < 2.2


@pytest.mark.slow
def test_a_long_file_is_heard_part_by_part(whisper, tmp_path, monkeypatch):
    monkeypatch.setattr(sound_parts.cut, "__defaults__", (4.0,))
    path = save_sound(tmp_path / "long.wav", babble(3.2, 1), silence(0.8), babble(3, 2), silence(2))

    heard = whisper.transcribe(str(path))

    assert len(heard.segments) == 2 * len(SAID)
    assert heard.segments[0].start_s == pytest.approx(0.0, abs=0.1)
    assert 3.4 < heard.segments[2].start_s < 4.3


@pytest.mark.parametrize(
    "sound",
    [silence(3), np.random.default_rng(0).standard_normal(3 * RATE) / 10],
    ids=["silence", "noise"],
)
def test_what_is_no_speech_never_loads_the_model(tmp_path, sound):
    path = save_sound(tmp_path / "no-speech.wav", sound)
    whisper = WhisperRecognizer(str(save_model(tmp_path / "model")))

    assert whisper.transcribe(str(path)) == Recognized([])
    assert whisper._loaded is None


def test_a_video_without_sound_was_looked_at(tmp_path):
    path = save_video(tmp_path / "silent.mp4")
    whisper = WhisperRecognizer(str(save_model(tmp_path / "model")))

    assert whisper.transcribe(str(path)) == Recognized()


def test_what_is_no_sound_fails_with_its_reason(tmp_path):
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF no sound at all")

    heard = WhisperRecognizer(str(save_model(tmp_path / "model"))).transcribe(str(path))

    assert heard.segments == ()
    assert "cannot be opened as sound" in heard.failure


@pytest.mark.slow
def test_it_stops_between_segments(whisper, spoken):
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) == 3  # before the part, before the first segment, before the second

    assert whisper.transcribe(str(spoken), should_stop=should_stop) is None
    assert len(asked) == 3


@pytest.mark.slow
def test_an_interrupt_ends_it(whisper, spoken):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whisper.transcribe(str(spoken), on_progress=interrupt)


@pytest.mark.slow
def test_a_gpu_that_cannot_be_used_is_passed_over(whisper_folder, spoken, monkeypatch, caplog):
    import ctranslate2

    if ctranslate2.get_cuda_device_count():
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)

    heard = WhisperRecognizer(str(whisper_folder)).transcribe(str(spoken))

    assert heard.segments
    assert "runs on the CPU instead" in caplog.text


@pytest.mark.slow
def test_it_is_quiet(whisper_folder, spoken, caplog, capfd):
    caplog.set_level(logging.INFO)

    WhisperRecognizer(str(whisper_folder)).transcribe(str(spoken))

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_language_that_the_model_does_not_know(whisper_folder, spoken):
    whisper = load_recognizer(f"{whisper_folder}@zh")

    with pytest.raises(UsageError, match="does not know the language 'zh'; it knows en"):
        whisper.transcribe(str(spoken))


@pytest.mark.slow
def test_weights_that_are_none(spoken, tmp_path):
    broken = load_recognizer(str(save_model(tmp_path / "broken")))

    with pytest.raises(EncoderUnavailableError, match="complete Whisper model"):
        broken.transcribe(str(spoken))


def test_the_identity_names_model_language_and_content(tmp_path):
    folder = str(save_model(tmp_path / "mine"))
    own = WhisperRecognizer(folder).identity

    assert own.startswith("whisper:mine ")
    assert WhisperRecognizer(folder).identity == own
    assert WhisperRecognizer(folder, language="en").identity != own
    save_model(tmp_path / "mine", **{"model.bin": "other weights"})
    assert WhisperRecognizer(folder).identity != own


def test_sidecar_is_no_model(tmp_path):
    recognizer = load_recognizer("sidecar")

    assert isinstance(recognizer, SpeechRecognizer)
    assert recognizer.identity == "sidecar"
    assert recognizer.transcribe(str(tmp_path / "absent.wav")) == Recognized()
    assert load_recognizer("sidecar@zh").language == "zh"


def test_names_with_a_language(tmp_path):
    folder = tmp_path / "mine@zh"
    folder.mkdir()

    assert name_and_language("small@zh") == ("small", "zh")
    assert name_and_language("someone/whisper") == ("someone/whisper", None)
    assert name_and_language("me@home/whisper") == ("me@home/whisper", None)
    assert name_and_language(str(folder)) == (str(folder), None)
    assert name_and_language(f"{folder}@en") == (str(folder), "en")


def test_the_clock_puts_pauses_back():
    # 2 s of speech from 1 s on, 3 s from 10 s on; the part begins at 100 s.
    clock = _Clock([(1 * RATE, 3 * RATE), (10 * RATE, 13 * RATE)], 100.0)

    assert [clock.start(t) for t in (0.0, 1.5, 2.0, 3.0)] == [101.0, 102.5, 110.0, 111.0]
    assert [clock.end(t) for t in (1.5, 2.0, 2.5, 5.0)] == [102.5, 103.0, 110.5, 113.0]
    assert clock.end(7.0) == 113.0  # beyond the sound, as models say at times
