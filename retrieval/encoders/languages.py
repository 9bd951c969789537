"""Which languages encoders know, and how well, as published: `languages.toml` with its sources."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from retrieval.errors import UsageError

KNOWN_RECALL = 50.0
"""Recall on Crossmodal-3600, in percent, from which an encoder knows a language."""

_CODE = re.compile(r"([a-z]{2,3})(?:[-_].*)?")


@dataclass(frozen=True)
class Languages:
    """What is declared of the languages of an encoder.

    known: ISO 639 codes of languages that it knows. are_all: it knows no others. recall: by code,
    the mean of recall@1, @5 and @10 from text to image on Crossmodal-3600, in percent. source:
    what it was trained on, with the publication. note: what users should know besides.
    """

    known: frozenset[str]
    are_all: bool
    recall: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    note: str = ""

    def knows(self, language: str) -> bool | None:
        """Return whether the encoder knows a language; None if nothing is declared of it."""
        return True if language in self.known else False if self.are_all else None


@cache
def languages_of(encoder: str, weights: str = "") -> Languages | None:
    """Return what is declared of an encoder; None if nothing is.

    Args:
        encoder: its name, such as `open_clip:ViT-B-32/openai`.
        weights: their checksum (`Space.weights`), which tells editions of one name apart.
    """
    table = _table()
    recall = table["crossmodal3600"].get(encoder, {})
    measured = {language for language, value in recall.items() if value >= KNOWN_RECALL}
    for entry in table["encoders"]:
        if not fnmatchcase(encoder, entry["pattern"]):
            continue
        if entry.get("weights", weights) != weights:
            continue
        listed, are_all = entry["languages"], entry["languages"] != "many"
        known = frozenset(listed if are_all else entry.get("known", ())) | measured
        return Languages(known, are_all, recall, entry["source"], entry.get("note", ""))
    return None


def measured_encoders(language: str) -> list[str]:
    """List the encoders with a published recall in a language, the best first."""
    of_encoder = _table()["crossmodal3600"]
    found = [name for name, recall in of_encoder.items() if language in recall]
    return sorted(found, key=lambda name: -of_encoder[name][language])


def language_code(text: str) -> str:
    """Return the code of a language tag: `zh` of `zh-CN`; raises UsageError for anything else."""
    found = _CODE.fullmatch(text.strip().lower())
    if found is None:
        raise UsageError(f"{text!r} is not the code of a language, such as en, de or zh (ISO 639).")
    return found[1]


def language_name(code: str) -> str:
    """Return the English name of a language, or its code if there is none here."""
    return str(_table()["names"].get(code, code))


@cache
def _table() -> dict[str, Any]:
    text = files(__package__).joinpath("languages.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
