"""Count the modules and functions that one JPEG passes on its way from the disk to its row.

    python -m tools.trace_indexing [JPEG]

The file is the second that is indexed into a library, by the starter encoder. What the worker calls
is counted in the worker. Generated functions (those of dataclasses and named tuples) are not
counted; comprehensions and closures are.
"""

import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("retrieval/", "indexer/")
OUTSIDE = ("retrieval/encoders/",)
"""The encoder is the same whatever is indexed."""

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
Function = tuple[str, str]
"""Path of a module and qualified name."""


class Trace:
    """The functions of this project that are called inside a `with` block and its new threads."""

    def __init__(self) -> None:
        self.functions: dict[Function, None] = {}

    def __enter__(self) -> "Trace":
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(REPOSITORY):
            module = path.relative_to(REPOSITORY).as_posix()
            if module.startswith(PACKAGES) and not module.startswith(OUTSIDE):
                self.functions[module, frame.f_code.co_qualname] = None


def call_traced(call: Any, args: tuple[Any, ...]) -> tuple[Any, list[Function]]:
    """Make a call and note what it calls: the worker's part."""
    with Trace() as trace:
        result = call(*args)
    return result, list(trace.functions)


def trace_indexing(jpeg: Path) -> tuple[list[Function], list[Function]]:
    """Index a file into a library that has another; what is called here, and in the worker."""
    from indexer.decoder_pool import DecoderPool
    from indexer.pipeline import index_sources
    from retrieval.encoders.starter_first import FirstStarterEncoder
    from retrieval.library import create_library

    in_worker: list[Function] = []

    class TracedWorkers(DecoderPool):
        def submit(self, call: Callable[[*Arguments], T], *args: *Arguments) -> Future[T]:
            result, functions = super().submit(call_traced, call, args).result()
            in_worker[:] = functions
            answer: Future[T] = Future()
            answer.set_result(result)
            return answer

    with tempfile.TemporaryDirectory() as folder, TracedWorkers(1) as workers:
        photos = Path(folder, "photos")
        photos.mkdir()
        encoder = FirstStarterEncoder()
        library = create_library(Path(folder, "library"), encoder.space)
        for number in range(2):
            # A byte after the end of a JPEG makes another content of the same picture.
            (photos / f"{number}.jpg").write_bytes(jpeg.read_bytes() + bytes([number]))
            with Trace() as trace:
                index_sources(library, encoder, [photos], readers=workers)
        library.close()
    return list(trace.functions), in_worker


def main() -> None:
    """Print the functions module by module, and how many there are."""
    from tools import trace_indexing as tool  # noqa: PLW0406 - a worker knows no function of `__main__`

    jpeg = Path(sys.argv[1]) if len(sys.argv) > 1 else _photo()
    here, there = tool.trace_indexing(jpeg)
    for name, functions in (("parent", here), ("worker", there)):
        by_module: dict[str, list[str]] = {}
        for module, function in functions:
            by_module.setdefault(module, []).append(function)
        print(f"{name}: {len(by_module)} modules, {len(functions)} functions")  # noqa: T201
        for module, names in by_module.items():
            print(f"  {module}: {', '.join(names)}")  # noqa: T201
    both = {*here, *there}
    modules = {module for module, _ in both}
    print(f"{len(modules)} modules, {len(both)} functions")  # noqa: T201


def _photo() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data" / "rocket.jpg"


if __name__ == "__main__":
    main()
