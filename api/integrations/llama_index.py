"""A retriever for LlamaIndex: `MMSearchRetriever("/path/to/library", similarity_top_k=5)`."""

from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode

from api.integrations.source import Found, Source, close_opened, find, open_source


class MMSearchRetriever(BaseRetriever):
    """Finds pictures, as image nodes, and passages, as text nodes.

    Args:
        source: As of `api.integrations.source.Source`.
        similarity_top_k: Maximum number of nodes.
        options: As `Library.search` takes them.
    """

    def __init__(self, source: Source, similarity_top_k: int = 10, **options: Any) -> None:
        self._named = source
        self._source = open_source(source)
        self._k = similarity_top_k
        self._options = options
        super().__init__()

    def close(self) -> None:
        """Close the library or the connections, unless they were given open."""
        close_opened(self._named, self._source)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = find(self._source, query_bundle.query_str, self._k, self._options)
        return [NodeWithScore(node=_node(found), score=found.score) for found in hits]


def _node(found: Found) -> TextNode:
    if found.picture is None:
        return TextNode(id_=found.id, text=found.text, metadata=found.metadata)
    return ImageNode(
        id_=found.id, text=found.text, metadata=found.metadata, image_path=found.picture
    )
