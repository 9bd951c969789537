"""A retriever for Haystack: `MMSearchRetriever("/path/to/library", top_k=5)`."""

from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict

from api.integrations.source import Source, close_opened, find, name_of, open_source


@component
class MMSearchRetriever:
    """Finds pictures and passages of a library or a service.

    Args:
        source: As of `api.integrations.source.Source`.
        top_k: Maximum number of documents.
        options: As `Library.search` takes them.
    """

    def __init__(
        self, source: Source, top_k: int = 10, options: dict[str, Any] | None = None
    ) -> None:
        self._named = source
        self._source = open_source(source)
        self._top_k = top_k
        self._options = options or {}

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """Find documents. top_k: instead of that of the component."""
        hits = find(self._source, query, top_k or self._top_k, self._options)
        return {
            "documents": [
                Document(id=found.id, content=found.text, meta=found.metadata, score=found.score)
                for found in hits
            ]
        }

    def close(self) -> None:
        """Close the library or the connections, unless they were given open."""
        close_opened(self._named, self._source)

    def to_dict(self) -> dict[str, Any]:
        """Write the component down, for pipelines; raises UsageError for a client as source."""
        written: dict[str, Any] = default_to_dict(
            self, source=name_of(self._named), top_k=self._top_k, options=self._options
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the component that was written down."""
        made: Self = default_from_dict(cls, data)
        return made
