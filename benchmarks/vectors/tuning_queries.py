"""Composes the bundled query texts from words written for it; `main` rewrites the file.

Nothing is taken from a data set of captions, so that none that a benchmark asks is among them.
"""

import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from retrieval.indices import tuning_queries

COUNT = 4096
_VOCABULARY = "vocabulary.toml"
_FILE = Path(tuning_queries.__file__).with_suffix(".txt")
_ENGLISH_SHARE = 0.8
_FRAMES = ("photo of {}", "a picture of {}", "{}, close-up", "{} seen from above", "{} in the dark")


def compose(count: int = COUNT, seed: int = 0) -> list[str]:
    """Compose `count` different texts; the same ones for the same seed on every machine."""
    vocabulary = tomllib.loads(files(__package__).joinpath(_VOCABULARY).read_text("utf-8"))
    languages = vocabulary.pop("languages")
    composer = _Composer({name: _split(text) for name, text in vocabulary.items()}, seed)
    shares: dict[Callable[[], str], float] = {
        composer.word: 0.14,
        composer.keywords: 0.14,
        composer.noun_phrase: 0.13,
        composer.short_caption: 0.22,
        composer.long_caption: 0.15,
        composer.question: 0.08,
        composer.document: 0.07,
        composer.mood: 0.07,
    }
    texts: dict[str, None] = {}
    for kind, share in shares.items():
        _add(texts, kind, round(count * _ENGLISH_SHARE * share))
    for language in languages:
        _add(
            texts,
            lambda language=language: composer.foreign(language),  # type: ignore[misc]
            round(count * (1 - _ENGLISH_SHARE) / len(languages)),
        )
    _add(texts, composer.short_caption, count - len(texts))
    shuffled = sorted(texts, key=lambda _text: composer.random())
    return shuffled[:count]


def main() -> None:
    """Write the bundled file."""
    text = "".join(f"{line}\n" for line in compose())
    _FILE.write_text(text, encoding="utf-8", newline="\n")


class _Composer:
    """Makes texts of several kinds from named lists of words."""

    def __init__(self, words: dict[str, list[str]], seed: int) -> None:
        self._words = words
        # `random()` alone is promised to give the same numbers in every version of Python.
        self.random = Random(seed).random

    def word(self) -> str:
        """Compose a single word or the name of a thing."""
        return self._pick(self._choose("animals", "things", "foods", "scenes", "ideas"))

    def keywords(self) -> str:
        """Two to four words without order, as people type them."""
        chosen = [self._noun(), self._pick("scenes")]
        if self.random() < 0.5:
            chosen.append(self._pick("attributes"))
        if self.random() < 0.4:
            chosen.append(self._pick("ideas"))
        return " ".join(sorted(chosen, key=lambda _word: self.random()))

    def noun_phrase(self) -> str:
        """Compose a thing with an attribute."""
        phrase = f"{self._pick('attributes')} {self._noun()}"
        if self.random() < 0.3:
            return self._choose(*_FRAMES).format(_with_article(phrase))
        return phrase

    def short_caption(self) -> str:
        """Someone who does something, perhaps somewhere."""
        caption = f"{self._subject()} {self._pick('actions')}"
        return f"{caption} {self._pick('places')}" if self.random() < 0.7 else caption

    def long_caption(self) -> str:
        """Two who do something, somewhere and at some time."""
        caption = (
            f"{self._subject()} {self._pick('actions')} {self._pick('places')} and "
            f"{self._pick('people')} {self._pick('sidelines')} {self._pick('times')}"
        )
        return f"{caption}, {self._pick('styles')}" if self.random() < 0.4 else caption

    def question(self) -> str:
        """Compose a question, or a wish."""
        thing = _with_article(f"{self._pick('attributes')} {self._noun()}")
        return self._pick("questions").format(thing=thing, place=self._pick("places"))

    def document(self) -> str:
        """Something written or drawn."""
        return f"{self._pick('documents')} {self._pick('topics')}"

    def mood(self) -> str:
        """Compose a scene at some time in some style."""
        return (
            f"{self._pick('attributes')} {self._pick('scenes')} {self._pick('times')}, "
            f"{self._pick('styles')}"
        )

    def foreign(self, language: dict[str, Any]) -> str:
        """Compose a short caption in another language."""
        words = {name: _split(language[name]) for name in ("subjects", "actions", "places")}
        subject, action, place = (self._choose(*choices) for choices in words.values())
        kind = self.random()
        if kind < 0.15:
            parts = [subject]
        elif kind < 0.4:
            parts = [subject, action]
        elif kind < 0.6:
            parts = [place, subject] if language["place_first"] else [subject, place]
        else:
            parts = [subject, action, place]
            if language["place_first"]:
                parts = [subject, place, action]
        return str(language["space"]).join(parts)

    def _choose(self, *choices: str) -> str:
        return choices[int(self.random() * len(choices))]

    def _pick(self, name: str) -> str:
        return self._choose(*self._words[name])

    def _noun(self) -> str:
        return self._pick(self._choose("animals", "things", "foods"))

    def _subject(self) -> str:
        kind = self.random()
        if kind < 0.45:
            return self._pick("people")
        animal = self._pick("animals")
        return _with_article(f"{self._pick('attributes')} {animal}" if kind < 0.7 else animal)


def _add(texts: dict[str, None], compose_one: Callable[[], str], count: int) -> None:
    size = len(texts) + count
    for _ in range(50 * count):  # a kind may have fewer different texts than are asked for
        if len(texts) >= size:
            return
        texts[compose_one()] = None


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.replace("\n", " ").split(";")]
