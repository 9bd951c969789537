import sys
from types import SimpleNamespace

import pytest

from retrieval.encoders.trust import trust_folder
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.recognition import registry
from retrieval.recognition.base import Task
from retrieval.recognition.registry import LOADERS, load_recognizer, require_model
from tests.block_codes import BlockReader


def test_the_module_of_the_task_loads_the_model(monkeypatch):
    module = SimpleNamespace(load_recognizer=lambda name: BlockReader(f"{name}/7"))
    monkeypatch.setitem(sys.modules, LOADERS[Task.OCR], module)
    assert load_recognizer(Task.OCR, "blocks").identity == "blocks/7"


def test_every_task_has_one():
    assert LOADERS.keys() == set(Task)


def test_a_model_that_cannot_be_loaded_is_noticed_without_loading_it(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    with pytest.raises(EncoderUnavailableError, match=r"no model in .* any more"):
        require_model(Task.SPEECH, f"{folder}@zh")
    folder.mkdir()
    with pytest.raises(UsageError, match="never named"):
        require_model(Task.SPEECH, f"{folder}@zh")
    trust_folder(folder)
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(EncoderUnavailableError, match="faster_whisper"):
        require_model(Task.SPEECH, f"{folder}@zh")
    require_model(Task.SPEECH, "sidecar@zh")
    monkeypatch.setattr(registry, "find_spec", lambda name: name)
    require_model(Task.SPEECH, f"{folder}@zh")
