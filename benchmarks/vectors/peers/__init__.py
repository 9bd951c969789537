"""Ways to search vectors, measured side by side, one a module; `METHODS` names them all."""

from collections.abc import Callable
from importlib.util import find_spec

from benchmarks.vectors.peers.autofaiss import AutofaissMethod
from benchmarks.vectors.peers.base import Method
from benchmarks.vectors.peers.exact import ExactMethod
from benchmarks.vectors.peers.hnswlib import HnswlibMethod
from benchmarks.vectors.peers.lancedb import LancedbMethod
from benchmarks.vectors.peers.milvus_lite import MilvusLiteMethod
from benchmarks.vectors.peers.mmsearch import FactoryMethod, OwnMethod
from benchmarks.vectors.peers.usearch import UsearchMethod
from retrieval.errors import UsageError

METHODS: dict[str, Callable[[], Method]] = {
    "exact": ExactMethod,
    "mmsearch": OwnMethod,
    "autofaiss": AutofaissMethod,
    "autofaiss-refined": lambda: AutofaissMethod(refined=True),
    "lancedb": LancedbMethod,
    "milvus-lite": MilvusLiteMethod,
    "usearch-f16": lambda: UsearchMethod("f16"),
    "usearch-i8": lambda: UsearchMethod("i8"),
    "hnswlib": HnswlibMethod,
}


def make_method(name: str) -> Method:
    """Make a method by its name, or by `factory:STRING` for any FAISS index with exact refine.

    Raises UsageError for a name that is none.
    """
    kind, _, factory = name.partition(":")
    if kind == "factory" and factory:
        return FactoryMethod(factory)
    if name not in METHODS:
        raise UsageError(
            f"There is no method {name!r}. There are: {', '.join(METHODS)} and "
            "factory:STRING, such as factory:IVF1024,PQ64."
        )
    return METHODS[name]()


def is_installed(method: Method) -> bool:
    """Whether the package that a method needs is here."""
    return method.package is None or find_spec(method.package) is not None
