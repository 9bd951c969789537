import sys
from types import SimpleNamespace

from retrieval.recognition.base import Task
from retrieval.recognition.registry import LOADERS, load_recognizer
from tests.block_codes import BlockReader


def test_the_module_of_the_task_loads_the_model(monkeypatch):
    module = SimpleNamespace(load_recognizer=lambda name: BlockReader(f"{name}/7"))
    monkeypatch.setitem(sys.modules, LOADERS[Task.OCR], module)
    assert load_recognizer(Task.OCR, "blocks").identity == "blocks/7"


def test_every_task_has_one():
    assert LOADERS.keys() == set(Task)
