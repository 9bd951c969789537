"""What the distribution installs."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def settings(path):
    return tomllib.loads((REPOSITORY / path).read_text(encoding="utf-8"))


def test_the_wheel_has_all_packages_and_no_others():
    setuptools = pytest.importorskip("setuptools")
    chosen = settings("pyproject.toml")["tool"]["setuptools"]["packages"]["find"]["include"]
    found = set(setuptools.find_packages(str(REPOSITORY), include=chosen))
    assert {"mmsearch", "retrieval", "indexer", "indexer.vectors", "api", "benchmarks"} <= found
    modules = {
        file.parent.relative_to(REPOSITORY).as_posix().replace("/", ".")
        for package in ("mmsearch", "retrieval", "indexer", "api", "benchmarks")
        for file in (REPOSITORY / package).rglob("__init__.py")
    }
    assert found == modules  # also not the thin client, which is a distribution of its own


def test_types_are_marked():
    patterns = settings("pyproject.toml")["tool"]["setuptools"]["package-data"]["*"]
    for package in ("mmsearch", "api", "retrieval"):
        assert (REPOSITORY / package / "py.typed").exists()
    assert any(fnmatch("py.typed", pattern) for pattern in patterns)
    client = settings("clients/python/pyproject.toml")
    assert client["tool"]["setuptools"]["package-data"] == {"mmsearch_client": ["py.typed"]}


def test_both_distributions_have_the_same_version():
    own, client = settings("pyproject.toml"), settings("clients/python/pyproject.toml")
    assert own["project"]["version"] == client["project"]["version"]
    names = {line.partition(">")[0] for line in client["project"]["dependencies"]}
    assert names == {"httpx", "pydantic"}
