"""What is declared of the languages of encoders."""

import tomllib
from fnmatch import fnmatchcase
from importlib.resources import files

import pytest

from retrieval.encoders.languages import (
    KNOWN_RECALL,
    language_code,
    language_name,
    languages_of,
    measured_encoders,
)
from retrieval.errors import UsageError

TABLE = tomllib.loads(files("retrieval.encoders").joinpath("languages.toml").read_text("utf-8"))


def test_models_of_english_pairs_know_only_what_was_measured() -> None:
    clip = languages_of("open_clip:ViT-B-32/openai")
    assert clip is not None
    assert clip.known == {"en"}
    assert clip.knows("de") is False
    siglip = languages_of("open_clip:ViT-B-16-SigLIP/webli")
    assert siglip is not None
    assert siglip.knows("fr") is True
    assert siglip.recall["fr"] >= KNOWN_RECALL > siglip.recall["pl"]
    assert siglip.knows("pl") is False


def test_multilingual_models_may_know_every_language() -> None:
    siglip = languages_of("open_clip:ViT-B-32-SigLIP2-256/webli")
    assert siglip is not None
    assert siglip.knows("zh") is True
    assert siglip.knows("hi") is None  # measured, and poor
    assert siglip.knows("eu") is None


def test_editions_of_the_starter_differ() -> None:
    first = "sha256:19d854653d65bed552c42f7e0fea1863fc893c07ffa4dbcb84f8bec9f276ba19"
    for declared in (languages_of("starter", first), languages_of("starter:1")):
        assert declared is not None
        assert declared.knows("zh") is False
    second = languages_of("starter", "sha256:another")
    assert second is not None
    assert (second.knows("zh"), second.knows("ja")) == (True, None)


def test_nothing_is_declared_of_other_encoders() -> None:
    assert languages_of("local-dir:/models/mine") is None


def test_encoders_are_listed_by_recall() -> None:
    names = measured_encoders("zh")
    recalls = [TABLE["crossmodal3600"][name]["zh"] for name in names]
    assert recalls == sorted(recalls, reverse=True)
    assert len(recalls) > 5
    assert measured_encoders("xx") == []


def test_all_figures_are_percentages_of_declared_encoders_and_named_languages() -> None:
    for name, recall in TABLE["crossmodal3600"].items():
        assert any(fnmatchcase(name, entry["pattern"]) for entry in TABLE["encoders"])
        assert all(20 <= value < 100 for value in recall.values())
        assert recall.keys() <= TABLE["names"].keys()
    assert all(entry["source"] for entry in TABLE["encoders"])


def test_names_and_codes() -> None:
    assert [language_code(tag) for tag in ("zh", "ZH-cn", "pt_BR", "fil")] == [
        "zh",
        "zh",
        "pt",
        "fil",
    ]
    assert (language_name("zh"), language_name("xx")) == ("Chinese", "xx")
    for wrong in ("", "Chinese", "z", "12"):
        with pytest.raises(UsageError, match="ISO 639"):
            language_code(wrong)
