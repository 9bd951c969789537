import pickle
import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from retrieval.errors import (
    EncoderUnavailableError,
    MissingExtraError,
    UnreadableFileError,
    UsageError,
    first_line,
    first_problem,
    left_out_packages_explained,
    require_at_least,
    require_share,
)
from retrieval.filters import Filter


def test_a_missing_extra_comes_back_from_another_process():
    error = pickle.loads(pickle.dumps(MissingExtraError("PDF files", "documents")))
    assert isinstance(error, UnreadableFileError)
    assert str(error) == "PDF files need an extra package: pip install 'mmsearch[documents]'"
    assert (error.what, error.extra) == ("PDF files", "documents")


def test_a_package_that_a_light_installation_lacks_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    sentence = r"^The encoder needs the module torch, .*`pip install torch open-clip-torch[^`]*`"
    with (
        pytest.raises(EncoderUnavailableError, match=sentence),
        left_out_packages_explained("The encoder"),
    ):
        import torch  # noqa: F401
    with pytest.raises(ModuleNotFoundError), left_out_packages_explained("The encoder"):
        import nosuch_module  # noqa: F401


def test_the_first_setting_that_is_too_small_is_named():
    settings = SimpleNamespace(epochs=3, patience=0, variants=-1)
    require_at_least(settings, 3, "epochs")
    with pytest.raises(UsageError, match="patience must be at least 1, not 0"):
        require_at_least(settings, 1, "epochs", "patience", "variants")


NINE_LEVELS: dict[str, object] = {}
for _ in range(8):
    NINE_LEVELS = {"not": NINE_LEVELS}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"width": {"min": "x"}}, "width.min: Input should be a valid number"),
        (NINE_LEVELS, "a filter has at most 8 levels"),
        ({"nosuch": 1}, "nosuch: "),
    ],
)
def test_the_first_problem_names_its_field_and_is_a_sentence(fields, sentence):
    with pytest.raises(ValidationError) as refused:
        Filter.model_validate(fields)
    told = first_problem(refused.value)
    assert told.startswith(sentence)
    assert told.endswith(".")


def test_the_first_setting_that_is_no_share_is_named():
    settings = SimpleNamespace(dropout=0, averaging=0.99, words=1, positions=-0.1)
    require_share(settings, "dropout", "averaging")
    with pytest.raises(UsageError, match=r"^words must be at least 0 and less than 1, not 1\.$"):
        require_share(settings, "dropout", "words", "positions")
    with pytest.raises(UsageError, match=r"not -0\.1"):
        require_share(settings, "positions")


def test_first_lines():
    assert first_line(ValueError("one: \ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
