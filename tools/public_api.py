"""Record the public API: the public names of the packages that programs import, with signatures.

    python -m tools.public_api

writes `tests/public_api.txt`, which a test compares with the code. A line that is added there needs
a minor version, one that changes or goes a major one (before 1.0: a minor one).
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests" / "public_api.txt"
PACKAGES = ("mmsearch", "mmsearch_client")


def public_api(packages: tuple[str, ...] = PACKAGES) -> str:
    """Describe the public names of some packages, a line a name."""
    return "".join(
        f"{line}\n" for package in packages for line in _of_package(import_module(package))
    )


def _of_package(package: ModuleType) -> Iterator[str]:
    for name in sorted(package.__all__):
        value = getattr(package, name)
        full = f"{package.__name__}.{name}"
        if inspect.isclass(value):
            yield from _of_class(full, value)
        elif inspect.isfunction(value):
            yield f"{full}{_signature(_parsed(value))}"
        else:
            yield f"{full}: {type(value).__name__}"


def _of_class(full: str, cls: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield f"class {full}({bases})"
    for owner in reversed(cls.__mro__):
        if owner.__module__.partition(".")[0] in {"builtins", "pydantic", "enum", "typing", "abc"}:
            continue
        if owner is not cls and owner.__module__ == cls.__module__ and owner.__name__[0] != "_":
            continue  # it is listed itself
        yield from (f"    {full}.{line}" for line in sorted(_members(_parsed(owner))))


def _members(tree: ast.AST) -> Iterator[str]:
    """Describe the public members of a class: fields, properties and methods."""
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if not node.target.id.startswith("_"):
                default = f" = {ast.unparse(node.value)}" if node.value else ""
                yield f"{node.target.id}: {ast.unparse(node.annotation)}{default}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(one) for one in node.decorator_list}
            is_public = not node.name.startswith("_") or node.name in {"__init__", "__iter__"}
            if "overload" in decorators or not is_public:
                continue
            if decorators & {"property", "cached_property"}:
                yield f"{node.name} -> {ast.unparse(node.returns) if node.returns else 'None'}"
            else:
                kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
                yield f"{kind}{node.name}{_signature(node)}"


def _signature(node: Any) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}"


def _parsed(value: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "clients" / "python"))
    RECORD.write_text(public_api(), encoding="utf-8")
