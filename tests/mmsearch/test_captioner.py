import numpy as np
import pytest
from PIL import Image

import mmsearch
from retrieval.recognition.captions import captioner as models

pytestmark = pytest.mark.slow

RED = Image.new("RGB", (60, 40), "red")
SNOW = Image.new("RGB", (60, 40), "white")


@pytest.fixture(scope="module")
def captioner(tiny_captioner):
    return mmsearch.Captioner(str(tiny_captioner("qwen2-vl")), device="cpu")


def test_one_image_gives_one_text_and_several_a_list(captioner, tmp_path):
    file = tmp_path / "red.png"
    RED.save(file)
    expected = models.Captioner(captioner.name, device="cpu").caption([RED, SNOW], new_tokens=6)
    described = captioner.describe([file, np.asarray(SNOW)], max_tokens=6)
    assert described == expected
    for one in (file, str(file), file.read_bytes(), RED, np.asarray(RED)):
        assert captioner.describe(one, max_tokens=6) == expected[0]
    assert captioner.describe([], max_tokens=6) == []
    begun = captioner.describe(RED, "a ball", max_tokens=6)
    assert begun == captioner.describe([RED], "a ball", max_tokens=6)[0]


def test_questions_are_answered(captioner, tiny_captioner):
    expected = models.Captioner(captioner.name, device="cpu").answer(RED, "cats ?", new_tokens=6)
    assert captioner.ask(RED, "cats ?", max_tokens=6) == expected
    assert (captioner.writes_captions, captioner.answers_questions) == (True, True)
    assert repr(captioner) == f"Captioner({str(tiny_captioner('qwen2-vl'))!r})"


def test_wrong_inputs_are_told(captioner, tmp_path):
    with pytest.raises(mmsearch.UsageError, match=r"nothing\.png"):
        captioner.describe(tmp_path / "nothing.png")
    with pytest.raises(TypeError, match="An image is a path"):
        captioner.ask(7, "what ?")
    with pytest.raises(TypeError, match="name of a model"):
        mmsearch.Captioner(tmp_path)
    with pytest.raises(mmsearch.UsageError, match="There is no folder"):
        mmsearch.Captioner("../nothing")
