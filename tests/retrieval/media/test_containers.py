import io

import pytest

from retrieval.errors import UnreadableFileError
from retrieval.media.audio import as_wave
from retrieval.media.containers import open_container
from tests.tiny_clap import RATE, tones

pytest.importorskip("av", reason="containers are opened by PyAV")


def test_only_named_formats_are_opened():
    content = as_wave(tones(440, seconds=0.1), RATE)
    with open_container(io.BytesIO(content), "sound", "wav") as container:
        assert container.format.name == "wav"
    with pytest.raises(UnreadableFileError, match="cannot be opened as sound: "):
        open_container(io.BytesIO(content), "sound", "flac,ogg")
    with pytest.raises(UnreadableFileError, match="as a video: the file is empty"):
        open_container(io.BytesIO(b""), "a video", "mov")
