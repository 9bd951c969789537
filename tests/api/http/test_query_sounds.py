import base64

import numpy as np
import pytest

from api.http.query_sounds import read_query_sounds
from retrieval.errors import UsageError
from retrieval.media.audio import as_wave
from retrieval.search.query import SOUND_RATE
from tests.tiny_clap import RATE, tones

pytest.importorskip("av", reason="sounds are read by PyAV")


def test_sounds_come_as_bytes_or_base64():
    content = as_wave(tones(440), RATE)
    named = [("one", content), ("two", base64.b64encode(content).decode())]
    one, two = read_query_sounds(named)
    np.testing.assert_array_equal(one, two)
    assert len(one) == pytest.approx(SOUND_RATE, rel=0.01)


@pytest.mark.parametrize(("content", "reason"), [("!", "base64"), (b"no sound", "opened as sound")])
def test_what_is_no_sound_is_named(content, reason):
    with pytest.raises(UsageError, match=f"The sound of part 2: .*{reason}"):
        read_query_sounds([("The sound of part 2", content)])
