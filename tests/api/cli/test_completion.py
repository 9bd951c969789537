"""Values that the shell completes are those that the program takes."""

import subprocess
import sys

import pytest

from api.cli import completion
from retrieval.media import MediaKind, Modality
from retrieval.search.query import Mode, Sort


def test_the_values_are_those_of_the_program():
    assert set(completion.KINDS) == set(MediaKind)
    assert set(completion.MODALITIES) == {"any", *Modality}
    assert set(completion.MODES) == set(Mode)
    assert set(completion.SORTS) == set(Sort)


def test_lists_are_completed_value_by_value():
    complete = completion.list_of(completion.KINDS)
    assert [name for name, _ in complete("vi")] == ["video"]
    assert [name for name, _ in complete("image,t")] == ["image,text", "image,table"]
    assert "image,image" not in dict(complete("image,"))
    assert complete("image,x") == []


@pytest.fixture
def complete(run, monkeypatch):
    """What a shell shows for a line."""

    def complete(words: str) -> set[str]:
        monkeypatch.setenv("_MMSEARCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        return set(run().out.split())

    return complete


def test_options_complete_their_values(indexed, complete, tmp_path):
    assert complete("mmsearch search --kind vi") == {"video"}
    assert complete("mmsearch search --modality ") == {"any", "image", "text", "audio"}
    assert complete("mmsearch facets --modality ") == {"image", "text", "audio"}
    assert complete("mmsearch index --encoder st") == {"starter"}
    assert complete("mmsearch search --sort date") == {"date", "date-asc"}
    assert complete("mmsearch config set rerank_") == {"rerank_depth", "rerank_budget"}
    [space] = complete("mmsearch search --space ")
    assert (tmp_path / "library" / "spaces" / space).is_dir()
    assert complete(f"mmsearch search --library {tmp_path / 'none'} --space ") == set()
    assert "--sort" in complete("mmsearch cat --so")


@pytest.mark.slow
def test_completion_imports_nothing_heavy():
    program = "import sys, api.cli.search; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    heavy = {"sqlalchemy", "numpy", "pydantic", "PIL", "torch", "onnxruntime"}
    assert heavy & set(done.stdout.split()) == set()
