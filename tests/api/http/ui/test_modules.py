"""The modules of the page fit each other: what one imports, another exports."""

import re
from pathlib import Path

import pytest

import api.http.ui

FOLDER = Path(api.http.ui.__file__).parent
MODULES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js")}
_EXPORT = re.compile(
    r"^export (?:async )?(?:function\*?|const|let|class) (?:(\w+)|\[([^\]]*)\])", re.MULTILINE
)
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";', re.MULTILINE)


def exported(source: str) -> set[str]:
    found = _EXPORT.findall(source)
    named = re.findall(r"^export \{ (?:\w+ as )?(\w+) \};", source, re.MULTILINE)
    return {*named, *(name for one, several in found for name in [one, *several.split(", ")])}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_what_a_module_imports_is_exported_and_used(name):
    source = MODULES[name]
    body = _IMPORT.sub("", source)
    for names, module in _IMPORT.findall(source):
        wanted = {word.strip() for word in names.split(",") if word.strip()}
        assert wanted <= exported(MODULES[module]), f"{name} imports from {module}"
        for word in wanted:
            assert re.search(rf"\b{word.split(' as ')[-1]}\b", body), f"{name} does not use {word}"
