"""Imports run one way and in no circle; tests stand where their modules do."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "retrieval": {"retrieval"},
    "indexer": {"indexer", "retrieval"},
    "benchmarks": {"benchmarks", "indexer", "retrieval"},
    "mmsearch": {"indexer", "mmsearch", "retrieval"},
    "api": {"api", "benchmarks", "indexer", "retrieval"},
}
ONLY_IN = {
    "faiss": "retrieval/indices/",
    "sqlalchemy": "retrieval/catalog/",
    "sqlite3": "retrieval/catalog/dialects/",
    "alembic": "retrieval/catalog/",
    "lance": ("retrieval/lance/", "indexer/vectors/files.py"),
    "fastapi": "api/",
    "typer": "api/",
    "rich": ("api/", "mmsearch/progress.py"),
}
LAYERS = [
    {"errors", "files", "machine", "objects"},
    {"catalog", "embeddings", "encoders", "filters", "media", "recognition"},
    {
        "duplicates",
        "folder_library",
        "indices",
        "integrity",
        "lance",
        "library",
        "relocation",
        "rerankers",
        "spaces",
    },
    {"search"},
    {"shards"},
    {"training"},
]
"""Of `retrieval`, from the bottom: a layer imports itself and those before it."""

NO_MODULE_OF_THEIR_NAME = {
    "tests/api/cli/test_index_objects.py",
    "tests/api/cli/test_index_tokens.py",
    "tests/api/http/test_examples.py",
    "tests/api/http/test_object_files.py",
    "tests/api/http/test_text_in_pictures.py",
    "tests/api/http/routes/test_page_grid.py",
    "tests/api/http/routes/test_page_viewer.py",
    "tests/api/http/routes/test_page_collections.py",
    "tests/api/http/ui/test_modules.py",
    "tests/api/http/routes/test_opened_table.py",
    "tests/api/test_local_days.py",
    "tests/api/http/routes/test_page_manage.py",
    "tests/benchmarks/metrics/test_oracles.py",
    "tests/indexer/test_changing_folder.py",
    "tests/indexer/test_crash_safety.py",
    "tests/indexer/enrichment/test_speech.py",
    "tests/indexer/test_new_modality.py",
    "tests/indexer/test_object_sources.py",
    "tests/retrieval/indices/test_conformance.py",
    "tests/retrieval/search/test_finding.py",
    "tests/retrieval/search/test_paging.py",
    "tests/retrieval/search/test_search_many.py",
    "tests/retrieval/search/test_understood.py",
    "tests/retrieval/test_kept_library.py",
    "tests/test_sound.py",
    "tests/test_arrows.py",
    "tests/test_docs.py",
    "tests/test_packaging.py",
    "tests/test_scale.py",
    "tests/test_site.py",
    "tests/test_training_tutorial.py",
    "tests/test_words.py",
}
"""Tests of what several modules do together, as are all in tests/faults."""


@cache
def trees() -> dict[str, ast.Module]:
    """Every source file of the packages, parsed, by its path."""
    return {
        file.relative_to(REPOSITORY).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for package in MAY_IMPORT
        for file in sorted((REPOSITORY / package).rglob("*.py"))
    }


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(
    tree: ast.AST, enters: Callable[[ast.AST], bool] = lambda _node: True
) -> Iterator[tuple[str, list[str]]]:
    """The modules that are imported in the nodes that it `enters`, each with the names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ".", [alias.name for alias in node.names]
        elif not isinstance(node, ast.expr) and enters(node):  # none stands in an expression
            yield from imports(node, enters)


def runs_at_import(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" not in ast.unparse(node.test)
    return not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


@cache
def import_graph() -> dict[str, set[str]]:
    """Of each own module, the own modules that must have been loaded before it."""
    modules = {module_name(path) for path in trees()}
    return {
        module_name(path): {
            name
            for module, names in imports(tree, runs_at_import)
            for name in (module, *(f"{module}.{name}" for name in names))
            if name in modules and name != module_name(path)
        }
        for path, tree in trees().items()
    }


def test_imports_follow_the_arrows():
    wrong = []
    for path, tree in trees().items():
        for module, _ in imports(tree):
            top = module.partition(".")[0]
            if top in MAY_IMPORT and top not in MAY_IMPORT[path.partition("/")[0]]:
                wrong.append(f"{path} imports {module}")
            if not path.startswith(ONLY_IN.get(top, "")):
                wrong.append(f"{path} imports {module}, which only {ONLY_IN[top]} may")
    assert wrong == []


def test_imports_inside_retrieval_run_down():
    height = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
    wrong = []
    for module, imported in import_graph().items():
        room = module.split(".")[1:2]
        for other in imported:
            target = other.split(".")[1:2]
            if room and target and module.startswith("retrieval.") and room != target:
                assert {*room, *target} <= height.keys(), f"give {room} and {target} a layer"
                if height[target[0]] > height[room[0]]:
                    wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_no_import_is_part_of_a_circle():
    # A package and its modules may name each other: `from package import module` is no circle.
    graph = {
        module: {other for other in imported if not module.startswith(f"{other}.")}
        for module, imported in import_graph().items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' <- '.join(error.args[1])}")


def test_only_the_api_prints_and_exits():
    calls = [
        f"{path}:{node.lineno} calls {ast.unparse(node.func)}"
        for path, tree in trees().items()
        if not path.startswith("api/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "exit", "sys.exit"}
    ]
    assert calls == []


def test_the_root_of_retrieval_holds_what_others_import():
    roots = [path for path in trees() if path.startswith("retrieval/") and path.count("/") == 1]
    assert len(roots) <= 10, roots


def test_tests_mirror_modules():
    """`tests/a/test_b.py`, or `tests/a/b/test_b.py` for a package, is about `a/b`.

    `a/b` may be a module of the page, too.
    """
    lost = []
    for test in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        path = test.relative_to(REPOSITORY)
        folder, name = Path(*path.parts[1:-1]), path.stem.removeprefix("test_")
        places = [folder / name, folder / f"{name}.py", folder / f"{name.replace('_', '-')}.js"]
        is_mirror = folder.name == name or any((REPOSITORY / place).exists() for place in places)
        if not is_mirror and path.as_posix() not in NO_MODULE_OF_THEIR_NAME:
            lost.append(path.as_posix())
    assert [path for path in lost if not path.startswith("tests/faults/")] == []


def test_modules_have_tests_of_their_name():
    """The other way round: `a/b.py` has `tests/a/test_b.py`."""
    lacking = [
        path
        for path in trees()
        if not path.endswith("/__init__.py")
        and "/migrations/" not in path
        and not (REPOSITORY / "tests" / Path(path).with_name(f"test_{Path(path).name}")).exists()
    ]
    assert lacking == []


def loaded_by(module: str) -> set[str]:
    """The modules that a fresh Python has after one import."""
    program = f"import sys, {module}\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    return set(result.stdout.split())


def test_help_imports_nothing_heavy():
    loaded = loaded_by("api.cli.program")
    heavy = {"faiss", "fastapi", "numpy", "open_clip", "PIL", "pydantic", "rich", "sqlalchemy"}
    assert (heavy | {"timm", "torch", "transformers"}) & loaded == set()
    own = {name for name in loaded if name.startswith(("api.", "retrieval."))}
    assert own == {
        "api.cli",
        "api.cli.lazy_group",
        "api.cli.program",
        "api.cli.query_group",
        "retrieval.errors",
    }


def test_schemas_load_no_reader_of_files():
    assert [name for name in loaded_by("api.http.schemas") if name.startswith("indexer")] == []
