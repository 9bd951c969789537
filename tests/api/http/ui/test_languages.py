"""The languages of the page: files that a translator can write without knowing the program."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[4] / "api/http/ui/languages"
COMPLETE = {"en", "zh"}
"""Languages that have every text; others fall back on English."""

Texts = dict[str, str | dict[str, str]]

_STRING = r'"(?:[^"\\]|\\.)*"'


def read(path: Path) -> Texts:
    """Read a file of texts, which is JSON but for bare keys, comments and last commas."""
    source = re.sub(r"^//.*$", "", path.read_text(), flags=re.MULTILINE).strip()
    body = source.removeprefix("export default").removesuffix(";")
    quoted = re.sub(rf"{_STRING}|(\w+)(?=:)", lambda m: f'"{m[1]}"' if m[1] else m[0], body)
    plain = re.sub(rf"{_STRING}|,(?=\s*}})", lambda m: m[0] if len(m[0]) > 1 else "", quoted)

    def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
        assert len(dict(pairs)) == len(pairs), f"{path.name} has a key twice"
        return dict(pairs)

    return json.loads(plain, object_pairs_hook=once)


def values(text: str | dict[str, str]) -> set[str]:
    """Return the names of the values in a text, in any of its forms."""
    forms = [text] if isinstance(text, str) else text.values()
    return {name for form in forms for name in re.findall(r"\{(\w+)\}", form)}


ENGLISH = read(FOLDER / "en.js")


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.stem)
def test_a_language_has_the_texts_and_their_values(path):
    texts = read(path)
    assert texts.keys() <= ENGLISH.keys()
    if path.stem in COMPLETE:
        assert texts.keys() == ENGLISH.keys()
    for key, text in texts.items():
        assert values(text) == values(ENGLISH[key]), key
        assert isinstance(text, str) == isinstance(ENGLISH[key], str), key
        if isinstance(text, dict):
            assert "other" in text, key
            assert text.keys() <= {"zero", "one", "two", "few", "many", "other"}, key


def test_every_text_that_the_page_asks_for_is_there():
    sources = "\n".join(
        path.read_text() for path in FOLDER.parent.iterdir() if path.suffix in {".js", ".html"}
    )
    asked = set(re.findall(r'\bt\("([^"]+)"|data-(?:text|label|placeholder)="([^"]+)"', sources))
    assert {first or second for first, second in asked} <= ENGLISH.keys()
