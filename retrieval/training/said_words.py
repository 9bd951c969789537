"""What words of captions say, too: who says `boy` has said `child` and `person`."""

import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files

Tables = dict[str, dict[str, str]]


def read_tables(code: str) -> Tables:
    """Read the tables of a language (`en`): `same_as` and `implies`, word to word; {} if none."""
    bundled = files(__package__).joinpath(f"said_words.{code}.toml")
    return tomllib.loads(bundled.read_text(encoding="utf-8")) if bundled.is_file() else {}


def said_words(tables: Tables, stem: Callable[[str], str]) -> Mapping[str, Mapping[str, str]]:
    """Return what each word says beside itself: by its stem, words by their stems.

    Of words that are the same, each says the others; of those that are implied, all that these say.
    """
    steps: dict[str, dict[str, str]] = {}
    for word, other in tables.get("same_as", {}).items():
        steps.setdefault(stem(word), {})[stem(other)] = other
        steps.setdefault(stem(other), {})[stem(word)] = word
    for word, implied in tables.get("implies", {}).items():
        steps.setdefault(stem(word), {})[stem(implied)] = implied
    return {start: _reached(start, steps) for start in steps}


def _reached(start: str, steps: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    reached: dict[str, str] = {}
    pending = [start]
    while pending:
        for found, word in steps.get(pending.pop(), {}).items():
            if found != start and found not in reached:
                reached[found] = word
                pending.append(found)
    return reached
