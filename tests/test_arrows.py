"""Imports run one way: retrieval <- indexer <- api; benchmarks may use all but the terminal."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "retrieval": {"retrieval"},
    "indexer": {"indexer", "retrieval"},
    "benchmarks": {"benchmarks", "indexer", "retrieval"},
    "api": {"api", "benchmarks", "indexer", "retrieval"},
}
ONLY_IN = {
    "faiss": ["retrieval/indices/"],
    "sqlalchemy": ["retrieval/catalog/"],
    "sqlite3": ["retrieval/catalog/"],
    "alembic": ["retrieval/catalog/"],
    "fastapi": ["api/"],
    "typer": ["api/"],
    "rich": ["api/"],
}


def imported(source: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            names.add((node.module or "").partition(".")[0])
    return names


def sources() -> list[Path]:
    return [file for package in MAY_IMPORT for file in (REPOSITORY / package).rglob("*.py")]


@pytest.mark.parametrize("source", sources(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_follow_the_arrows(source):
    place = source.relative_to(REPOSITORY).as_posix()
    names = imported(source)
    assert names & set(MAY_IMPORT) <= MAY_IMPORT[place.partition("/")[0]]
    for library, homes in ONLY_IN.items():
        assert library not in names or place.startswith(tuple(homes))


@pytest.mark.parametrize("source", sources(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_only_the_api_prints_and_exits(source):
    if source.is_relative_to(REPOSITORY / "api"):
        return
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"print", "exit", "sys.exit"}, source


def test_help_imports_nothing_heavy():
    program = (
        "import sys, api.cli\n"
        "heavy = {'torch', 'faiss', 'transformers', 'open_clip', 'fastapi', 'timm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"
