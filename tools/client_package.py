"""Write the thin client, `clients/python`, from the service's own client and its description.

    python -m tools.client_package

makes `mmsearch_client/models.py` of the OpenAPI document, and `client.py`, with a synchronous and
an asynchronous client, of `api/client.py`: there is one source of each. A test compares them.
"""

import ast
import inspect
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import api.client
from api.http.app import create_app
from retrieval import errors

PACKAGE = Path(__file__).resolve().parents[1] / "clients" / "python" / "mmsearch_client"
_NOTICE = "\n\n`python -m tools.client_package` writes this module; do not edit it.\n"
_FIELD_NAMES = {"and": "all_of", "or": "any_of", "not": "none_of"}
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_AWAITED = {"self._http.close": "aclose", "self.close": "aclose", "answer.read": "aread"}


def name_of(schema: str) -> str:
    """Return the name of a model in the client: `ServedAnswer` is `Answer`, `JobSchema` `Job`."""
    joined = re.sub(r"_+(\w?)", lambda found: found[1].upper(), schema)
    return joined.replace("Schema", "").removeprefix("Served")


def models() -> str:
    """Return the source of the models that the service's OpenAPI document describes."""
    with tempfile.TemporaryDirectory() as folder:
        document = create_app(Path(folder)).openapi()
    schemas = document["components"]["schemas"]
    lines = [
        f'"""Requests and answers of the service.{_NOTICE}"""',
        "from __future__ import annotations",
        "from datetime import datetime",
        "from typing import Any, Literal",
        "from pydantic import BaseModel, ConfigDict, Field",
    ]
    chosen = {name: one for name, one in schemas.items() if not name.startswith("Body_")}
    aliases = {name: one for name, one in chosen.items() if "properties" not in one}
    lines += [f"{name_of(name)} = {_type(one)}" for name, one in sorted(aliases.items())]
    for name, one in sorted(chosen.items()):
        if name not in aliases:
            lines += ["", *_model(name_of(name), one)]
    return _formatted("\n".join(lines) + "\n")


def _model(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"class {name}(BaseModel):"
    yield f"    {_docstring(schema.get('description') or 'As the service describes it.')}"
    extra = "forbid" if schema.get("additionalProperties") is False else "ignore"
    yield f'    model_config = ConfigDict(extra="{extra}", populate_by_name=True)'
    required = set(schema.get("required", ()))
    fields = sorted(schema["properties"].items(), key=lambda pair: pair[0] not in required)
    for alias, field in fields:
        kind, settings = _type(field), {}
        if alias not in required:
            settings["default"] = field.get("default")
            if settings["default"] is None and "None" not in kind:
                kind = f"{kind} | None"
        if (own := _FIELD_NAMES.get(alias, alias)) != alias:
            settings["alias"] = alias
        given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        value = f" = Field({given})" if "alias" in settings else ""
        if not value and settings:
            value = f" = {settings['default']!r}"
        yield f"    {own}: {kind}{value}"
        if text := field.get("description"):
            yield f"    {_docstring(text)}"


def _docstring(text: str) -> str:
    summary = inspect.cleandoc(text.partition("Args:")[0])
    indented = summary.replace("\\", "\\\\").replace("\n", "\n    ")
    return f'"""{indented}"""'


def _type(schema: Mapping[str, Any]) -> str:  # noqa: PLR0911 - a kind of schema each
    """Return the annotation of a JSON schema."""
    if "$ref" in schema:
        return name_of(schema["$ref"].rpartition("/")[2])
    if options := schema.get("anyOf") or schema.get("allOf"):
        return " | ".join(dict.fromkeys(map(_type, options)))
    if "const" in schema or "enum" in schema:
        return f"Literal[{', '.join(map(repr, schema.get('enum', [schema.get('const')])))}]"
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"tuple[{', '.join(map(_type, schema['prefixItems']))}]"
        return f"list[{_type(schema.get('items', {}))}]"
    if kind == "object":
        inner = schema.get("additionalProperties", {})
        return f"dict[str, {_type(inner) if isinstance(inner, dict) else 'Any'}]"
    is_date = schema.get("format") == "date-time"
    return "datetime" if is_date else _SCALARS.get(kind or "", "Any")


def client() -> str:
    """Return the source of both clients."""
    tree = ast.parse(inspect.getsource(api.client))
    used = _Imports()
    body = [node for node in tree.body[1:] if not used.takes(node)]
    [sync] = [node for node in body if isinstance(node, ast.ClassDef) and node.name == "Client"]
    place = body.index(sync) + 1
    body[place:place] = [asynchronous(sync)]
    renamed = _Renamer(used.models).visit(ast.Module(body, []))
    lines = [
        f'"""Clients of the service, synchronous and asynchronous.{_NOTICE}"""',
        "import asyncio",
        "from collections.abc import AsyncIterator",
        *map(ast.unparse, used.kept),
        f"from mmsearch_client.errors import {', '.join(sorted(used.errors))}",
        f"from mmsearch_client.models import {', '.join(sorted(map(name_of, used.models)))}",
        *(f"{name} = {value}" for name, value in sorted(used.constants.items())),
        ast.unparse(ast.fix_missing_locations(renamed)),
    ]
    return _formatted("\n".join(lines) + "\n")


class _Imports:
    """What the client imports: what it may keep, and what of the service stands for it."""

    def __init__(self) -> None:
        self.kept: list[ast.stmt] = []
        self.errors: set[str] = set()
        self.models: set[str] = set()
        self.constants: dict[str, str] = {}

    def takes(self, node: ast.stmt) -> bool:
        """Take a statement in if it is an import."""
        named = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and named.startswith(("api.", "retrieval.")):
            module = import_module(named)
            for alias in node.names:
                self._take(alias.name, getattr(module, alias.name))
            return True
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.kept.append(node)
            return True
        return False

    def _take(self, name: str, value: Any) -> None:
        if hasattr(errors, name):
            self.errors.add(name)
        elif isinstance(value, type) and issubclass(value, BaseModel):
            self.models.add(name)
        else:
            self.constants[name] = repr(value)
            if isinstance(value, frozenset):
                values = sorted(one.value if isinstance(one, Enum) else one for one in value)
                self.constants[name] = f"frozenset({values!r})"


class _Renamer(ast.NodeTransformer):
    """Gives models the names that they have in the client, also in documents."""

    def __init__(self, names: set[str]) -> None:
        self._names = {name: name_of(name) for name in names}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._names.get(node.id, node.id)
        return node


def asynchronous(client: ast.ClassDef) -> ast.ClassDef:
    """Return the asynchronous form of a client: what asks the service is awaited."""
    copied = ast.parse(ast.unparse(client)).body[0]
    assert isinstance(copied, ast.ClassDef)
    functions = [node for node in copied.body if isinstance(node, ast.FunctionDef)]
    asking = {node.name for node in functions if _asks(node)}
    while True:  # also those that call these
        more = {node.name for node in functions if _calls(node) & asking} | asking
        if more == asking:
            break
        asking = more
    copied.name = "AsyncClient"
    copied.body = [
        _Awaiting(asking).make(node)
        if isinstance(node, ast.FunctionDef) and node.name in asking | {"__enter__", "__exit__"}
        else node
        for node in copied.body
    ]
    [init] = [node for node in functions if node.name == "__init__"]
    for node in ast.walk(init):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "httpx.Client":
            node.attr = "AsyncClient"
    return copied


def _asks(node: ast.FunctionDef) -> bool:
    calls = {ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)}
    return bool(calls & {"self._http.request", "self._http.stream", "self._http.close"})


def _calls(node: ast.FunctionDef) -> set[str]:
    return {
        one.func.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and ast.unparse(one.func.value) == "self"
    }


class _Awaiting(ast.NodeTransformer):
    """Makes a method one that awaits."""

    def __init__(self, asking: set[str]) -> None:
        self._asking = asking
        self._is_stream = False

    def make(self, node: ast.FunctionDef) -> ast.AsyncFunctionDef:
        made = ast.AsyncFunctionDef(**{name: getattr(node, name) for name in node._fields})
        made.name = {"__enter__": "__aenter__", "__exit__": "__aexit__", "close": "aclose"}.get(
            made.name, made.name
        )
        self.generic_visit(made)
        return made

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = {"Iterator": "AsyncIterator"}.get(node.id, node.id)
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        is_stream = "self._http.stream" in ast.unparse(node.items[0])
        self.generic_visit(node)
        return ast.AsyncWith(node.items, node.body) if is_stream else node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        streamed = ("aiter_lines", "aiter_bytes")
        if isinstance(node.iter, ast.Call) and ast.unparse(node.iter.func).endswith(streamed):
            return ast.AsyncFor(node.target, node.iter, node.body, node.orelse)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        called = ast.unparse(node.func)
        if called == "time.sleep":
            return ast.Await(ast.Call(ast.Name("asyncio.sleep"), node.args, []))
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"iter_bytes", "iter_lines"}:
            node.func.attr = f"a{node.func.attr}"
            return node
        if isinstance(node.func, ast.Attribute) and called in _AWAITED:
            node.func.attr = _AWAITED[called]
            return ast.Await(node)
        is_asking = called == "self._http.request" or called.removeprefix("self.") in self._asking
        return ast.Await(node) if is_asking and called.startswith("self.") else node


def _formatted(source: str) -> str:
    """Return a source as `ruff format` writes it, with sorted imports and without unused ones."""
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(PACKAGE / "client.py")]
    checked = [*ruff, "check", "--select", "I,F401,UP", "--fix", "--quiet", *name, "-"]
    for command in (checked, [*ruff, "format", "--quiet", *name, "-"]):
        ran = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        source = ran.stdout or source
    return source


if __name__ == "__main__":
    (PACKAGE / "models.py").write_text(models(), encoding="utf-8")
    (PACKAGE / "client.py").write_text(client(), encoding="utf-8")
