"""Write down what is said in sound files and videos, with Whisper (faster-whisper)."""

import bisect
import logging
import math
import os
import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.encoders import hub
from retrieval.errors import EncoderUnavailableError, UnreadableFileError, UsageError, first_line
from retrieval.machine import threads_of_networks
from retrieval.media.audio import NoSoundError, Samples, open_sound
from retrieval.recognition.base import (
    MOST_SEGMENTS,
    SIDECAR,
    Recognized,
    Segment,
    SpeechRecognizer,
    Task,
)
from retrieval.recognition.sound_parts import RATE, parts_of
from retrieval.recognition.whisper_files import digest_of, find_model

_SURE = 0.8
"""Probability from which another language than before is believed of a later part of a file."""

_WITH_LANGUAGE = re.compile(r"(.+)@([a-z]{2,3})")


def load_recognizer(name: str) -> SpeechRecognizer:
    """Return the recogniser of a name: `sidecar`, or a model of Whisper as `find_model` has it.

    `NAME@zh` tells the language that is spoken. Raises as `find_model`.
    """
    plain, language = name_and_language(name)
    if plain == SIDECAR:
        return SubtitlesAlone(language)
    return WhisperRecognizer(plain, language=language)


def name_and_language(name: str) -> tuple[str, str | None]:
    """Split `NAME@zh` into the name and the code of a language; None: it is detected."""
    found = None if Path(name).expanduser().is_dir() else _WITH_LANGUAGE.fullmatch(name)
    return (found[1], found[2]) if found else (name, None)


class SubtitlesAlone:
    """Hears nothing: for users who have subtitles, which the indexer takes before a model."""

    task = Task.SPEECH
    identity = SIDECAR

    def __init__(self, language: str | None = None) -> None:
        self.language = language

    def transcribe(
        self,
        path: str,
        *,
        on_progress: Callable[[float], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Recognized | None:
        """Find nothing, in any file."""
        return Recognized()


class WhisperRecognizer:
    """Whisper (Radford et al. 2022) in the format of CTranslate2, by faster-whisper.

    What is not speech is left out first, by Silero VAD, whose network faster-whisper carries: a
    file of music or noise costs no run of the model, and gives no invented text. Files are read in
    parts of five minutes that end where it is quiet, so memory does not grow with their length.
    Each part is heard by itself: what was said before is no prompt, so that a repetition does not
    go on for the rest of a file.

    The confidence of a segment is exp(avg_logprob) of faster-whisper: the geometric mean of the
    probabilities of its tokens. Segments of one window of 30 seconds share it.

    name: see `find_model`. language: code of what is spoken, such as `zh`; None: detected, at the
    beginning of each part. The model is loaded when the first speech is there to be heard.

    Raises UsageError and EncoderUnavailableError as `find_model`.
    """

    task = Task.SPEECH

    def __init__(
        self,
        name: str,
        *,
        device: str = "auto",
        language: str | None = None,
    ) -> None:
        self._folder = find_model(name)
        is_folder = self._folder == Path(name).expanduser().absolute()
        label = self._folder.name if is_folder else name
        spoken = f"@{language}" if language else ""
        self.identity = f"whisper:{label[-120:]}{spoken} {digest_of(self._folder)}"
        self._name = name
        self._device = device
        self.language = language
        self._loaded: Any = None

    def transcribe(
        self,
        path: str,
        *,
        on_progress: Callable[[float], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Recognized | None:
        """Hear a file from its beginning; see `SpeechRecognizer`.

        A file without sound, and one in which nobody speaks, have no segments. What is broken
        gives what can be decoded of it.
        """
        segments: list[Segment] = []
        language = self.language
        try:
            with open_sound(path) as sound:
                for start_s, samples in parts_of(sound):
                    if should_stop():
                        return None
                    heard, language = self._hear(start_s, samples, language)
                    for segment in heard:
                        if should_stop():
                            return None
                        segments.append(segment)
                        on_progress(segment.end_s or 0.0)
                    on_progress(start_s + len(samples) / RATE)
                    if len(segments) >= MOST_SEGMENTS:
                        break
                damage = sound.damage
        except NoSoundError:
            return Recognized()
        except (UnreadableFileError, OSError) as error:
            return Recognized(failure=str(error).rstrip("."))
        if damage and not segments:
            return Recognized(failure=f"its sound cannot be decoded: {damage}")
        return Recognized(segments)

    def _hear(
        self, start_s: float, samples: Samples, language: str | None
    ) -> tuple[Iterator[Segment], str | None]:
        """Hear a part; gives its segments, and the language that is surely spoken from there on.

        A short part may seem to be in another language, which is then not believed.
        """
        from faster_whisper.vad import get_speech_timestamps

        spans = [(span["start"], span["end"]) for span in get_speech_timestamps(samples)]
        if not spans:
            return iter(()), language
        speech = np.concatenate([samples[start:end] for start, end in spans])
        heard, info = self._run(speech, self.language)
        if info.language_probability >= _SURE:
            language = info.language
        elif language not in {None, info.language}:
            heard, _ = self._run(speech, language)
        clock = _Clock(spans, start_s)
        return (_segment(one, clock) for one in heard), language

    def _run(self, speech: Samples, language: str | None) -> tuple[Iterator[Any], Any]:
        model = self._model()
        heard: tuple[Iterator[Any], Any] = model.transcribe(
            speech, language=language, condition_on_previous_text=False
        )
        return heard

    def _model(self) -> Any:
        if self._loaded is None:
            self._loaded = _load(self._folder, self._name, self._device)
            known = self._loaded.supported_languages
            if self.language not in {None, *known}:
                raise UsageError(
                    f"The speech model {self._name} does not know the language "
                    f"{self.language!r}; it knows {', '.join(sorted(known))}."
                )
        return self._loaded


class _Clock:
    """Turns times of speech without its pauses into those of the file."""

    def __init__(self, spans: list[tuple[int, int]], start_s: float) -> None:
        lengths = [end - start for start, end in spans]
        self._begins: list[int] = list(accumulate(lengths[:-1], initial=0))
        self._spans = spans
        self._start_s = start_s

    def start(self, seconds: float) -> float:
        """Return when something begins that begins at this time of the speech."""
        return self._at(seconds, bisect.bisect_right(self._begins, round(seconds * RATE)) - 1)

    def end(self, seconds: float) -> float:
        """Return when something ends: at the end of a span, not after the pause behind it."""
        return self._at(seconds, bisect.bisect_left(self._begins, round(seconds * RATE)) - 1)

    def _at(self, seconds: float, span: int) -> float:
        span = max(0, span)
        start, end = self._spans[span]
        moment = min(start + seconds * RATE - self._begins[span], end)
        return self._start_s + moment / RATE


def _segment(heard: Any, clock: _Clock) -> Segment:
    start_s = clock.start(heard.start)
    return Segment(
        heard.text.strip(),
        confidence=math.exp(min(0.0, heard.avg_logprob)),
        start_s=start_s,
        end_s=max(start_s, clock.end(heard.end)),
    )


def _load(folder: Path, name: str, device: str) -> Any:
    """Load a model onto a device, in 8 bits on a CPU and in float16 on a GPU.

    A GPU that was not asked for and cannot be used, mostly for want of cuBLAS or cuDNN, is passed
    over with a warning.
    """
    import ctranslate2

    if device == "auto" and ctranslate2.get_cuda_device_count():
        try:
            return _load_on(folder, name, "cuda")
        except EncoderUnavailableError as error:
            logging.getLogger(__name__).warning("%s It runs on the CPU instead.", error)
    return _load_on(folder, name, device if device.startswith("cuda") else "cpu")


def _load_on(folder: Path, name: str, device: str) -> Any:
    try:
        return _open(folder, device)
    except Exception as error:  # each library underneath has errors of its own
        reason = first_line(error)
        raise EncoderUnavailableError(
            f"The speech model {name} cannot be loaded on {device}: {reason}. Check that {folder} "
            "holds a complete Whisper model in the format of CTranslate2."
        ) from error


def _open(folder: Path, device: str) -> Any:
    import ctranslate2
    from faster_whisper import WhisperModel

    kind, _, number = device.partition(":")
    index = int(number or 0)
    fast = "float16" if kind == "cuda" else "int8"
    can = ctranslate2.get_supported_compute_types(kind, index)
    with hub.offline():
        model = WhisperModel(
            str(folder),
            device=kind,
            device_index=index,
            compute_type=fast if fast in can else "float32",
            cpu_threads=_threads(),
        )
    bands = model.feature_extractor.mel_filters.shape[0]
    if bands != model.model.n_mels:
        raise ValueError(
            "its preprocessor_config.json is missing or is that of another model: it says "
            f"{bands} mel bands, the weights take {model.model.n_mels}"
        )
    if kind == "cuda":  # only a first run tells whether cuBLAS and cuDNN are there
        model.encode(np.zeros((bands, model.feature_extractor.nb_max_frames), np.float32))
    return model


def _threads() -> int:
    """Return the threads of the model on a CPU; 0 leaves them to OMP_NUM_THREADS."""
    if limit := threads_of_networks():
        return limit
    return 0 if os.environ.get("OMP_NUM_THREADS") else min(8, os.cpu_count() or 1)
