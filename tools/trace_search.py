"""Count the modules and functions that one search passes, from the request to the JSON.

    python -m tools.trace_search LIBRARY [TEXT]

The service answers a warm search with a new text, whose words become no filters, without
reranking. Named functions count, not comprehensions and lambdas, nor what dataclasses and pydantic
generate.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("retrieval", "indexer", "api")
OUTSIDE = (
    "api/http/middleware/",
    "api/http/batching.py",
    "retrieval/encoders/",
    "api/http/settings.py",
    "api/http/metrics.py",
)
"""The middleware, the queue and the encoder, and what only these call."""

_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")


class Trace:
    """The functions that were called while `recording`, by the path of their module."""

    def __init__(self) -> None:
        self._codes: dict[CodeType, None] = {}
        self._is_on = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch this thread and all that are started meanwhile."""
        sys.setprofile(self._on_event)
        threading.setprofile(self._on_event)
        try:
            yield
        finally:
            threading.setprofile(None)
            sys.setprofile(None)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note the calls of the block."""
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def functions(self, outside: tuple[str, ...] = OUTSIDE) -> list[tuple[str, str]]:
        """Module paths and qualified names of distinct functions, in the order of first call."""
        found = []
        for code in self._codes:
            if code.co_name in _COMPREHENSIONS:
                continue
            path = Path(code.co_filename)
            if not path.is_relative_to(REPOSITORY):
                continue
            module = path.relative_to(REPOSITORY).as_posix()
            if module.startswith(PACKAGES) and not module.startswith(outside):
                found.append((module, code.co_qualname))
        return found

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        if self._is_on and event == "call":
            self._codes[frame.f_code] = None


def trace_search(library: Path, text: str, warm_up: str = "warm up") -> Trace:
    """Search through the whole service, in this process, and note what the second search calls."""
    from fastapi.testclient import TestClient

    from api.http.app import create_app
    from api.http.settings import ServiceSettings
    from retrieval.library import open_library

    trace = Trace()
    with trace.installed():
        app = create_app(open_library(library), ServiceSettings(rerank="none"), device="cpu")
        with TestClient(app, base_url="http://127.0.0.1") as client:
            body = {"text": warm_up, "rerank": "none", "parse": False}
            while (response := client.post("/v1/search", json=body)).status_code == 503:
                threading.Event().wait(0.05)
            response.raise_for_status()
            with trace.recording():
                client.post("/v1/search", json=body | {"text": text}).raise_for_status()
    return trace


def main() -> None:
    """Print the functions module by module, and how many there are."""
    _, library, *rest = sys.argv
    functions = trace_search(Path(library), rest[0] if rest else "a dog in the snow").functions()
    by_module: dict[str, list[str]] = {}
    for module, function in functions:
        by_module.setdefault(module, []).append(function)
    for module, names in by_module.items():
        print(f"{module}: {', '.join(names)}")  # noqa: T201
    print(f"{len(by_module)} modules, {len(functions)} functions")  # noqa: T201


if __name__ == "__main__":
    main()
