"""Help and documents use the words that people search for."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from api.cli import app
from api.http.app import create_app

REPOSITORY = Path(__file__).resolve().parents[1]
AVOID = {
    r"anew": "again",
    r"heed": "respect",
    r"with commas": "comma-separated",
    r"so many": "the number",
    r"(?:what|how much) is kept": "the cache, its size",
    r"what (?:it|they) (?:is|are) made of": "its parts",
    r"of its own kind": "of the same kind",
    r"(?:and|or) (?:its|their) like": "and similar ones",
    r"cannot be meant": "is invalid",
    r"(?:only costs?|costs? only) itself": "never affects others",
    r"links to folders": "symbolic links to directories",
    r"spread out": "diversified",
    r"settling": "write stability",
    r"familiarity": "out-of-distribution trust",
    r"likeness": "image similarity",
    r"(?<!rank )(?<!train )fusion(?!\[?:)": "reranker, or rank fusion",
}
"""What not to write, and what instead. `train fusion` and `fusion:FILE` stay valid spellings."""

CODE = re.compile(r"```.*?```|^(?: {4}|\t).*$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def texts() -> Iterator[tuple[str, str]]:
    """Yield the pages, without their code, the help of every command and the API's descriptions."""
    named = (REPOSITORY / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY"))
    for page in (*named, *sorted((REPOSITORY / "docs").glob("*.md"))):
        yield page.name, prose(page.read_text(encoding="utf-8"))
    yield from helps(typer.main.get_command(app), "mmsearch")
    for at, text in descriptions(create_app(Path("nowhere")).openapi()):
        yield f"OpenAPI {at}", prose(text)


def descriptions(part, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for key, below in part.items():
            if key in {"description", "summary"} and isinstance(below, str):
                yield at, below
            else:
                yield from descriptions(below, f"{at}/{key}")
    elif isinstance(part, list):
        for below in part:
            yield from descriptions(below, at)


def prose(markdown: str) -> str:
    return " ".join(CODE.sub(" ", markdown).split())


def helps(command, name: str) -> Iterator[tuple[str, str]]:
    parts = [command.help or "", *(getattr(p, "help", None) or "" for p in command.params)]
    yield f"{name} --help", prose("\n".join(parts))
    for child, below in getattr(command, "commands", {}).items():
        yield from helps(below, f"{name} {child}")


def test_help_and_documents_use_words_that_people_search_for():
    found = [
        f"{name}: write {instead!r}: {text[max(0, match.start() - 30) : match.end() + 20]}"
        for name, text in texts()
        for pattern, instead in AVOID.items()
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE)
    ]
    assert found == []
