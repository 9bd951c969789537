"""A retriever for LangChain: `MMSearchRetriever(source="/path/to/library", k=5)`."""

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr

from api.integrations.source import close_opened, find, open_source


class MMSearchRetriever(BaseRetriever):
    """Finds pictures and passages of a library or a service.

    source: as of `api.integrations.source.Source`. options: as of `Library.search`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    source: Any
    k: int = 10
    options: dict[str, Any] = Field(default_factory=dict)
    _opened: Any = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Open the source."""
        super().model_post_init(context)
        self._opened = open_source(self.source)

    def close(self) -> None:
        """Close the library or the connections, unless they were given open."""
        close_opened(self.source, self._opened)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [
            Document(page_content=found.text, metadata=found.metadata, id=found.id)
            for found in find(self._opened, query, self.k, self.options)
        ]
