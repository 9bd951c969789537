"""What the retrievers share: a source to search, and hits as texts with metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from api.client import Client
from api.http.schemas import ServedAnswer
from api.http.schemas.search import ServedHit
from retrieval.errors import UsageError, first_problem
from retrieval.filters import Filter
from retrieval.library import Library, open_library

Source = Library | Client | str | Path
"""An open library or a client; or the directory of a library, or the URL of a service."""

_TOLD = (
    *("item_id", "path", "kind", "modality", "page", "time_s", "columns"),
    *("similarity", "match", "relevance", "words"),
)


@dataclass(frozen=True)
class Found:
    """A hit. text: the passage, or what is known of a picture in words; metadata: of JSON."""

    id: str
    text: str
    score: float
    metadata: dict[str, Any]

    @property
    def picture(self) -> str | None:
        """Path of an image file that was found; None for other hits."""
        is_image = self.metadata["kind"] == "image"
        return str(self.metadata["path"]) if is_image else None


def open_source(source: Source) -> Library | Client:
    """Open a source that is named by its directory or URL; raises UsageError for another type."""
    if isinstance(source, Library | Client):
        return source
    if isinstance(source, str) and "://" in source:
        return Client(source)
    if isinstance(source, str | Path):
        return open_library(source)
    raise UsageError(
        "A source is a Library, a Client, the directory of a library or the URL of a service, not "
        f"{type(source).__name__}."
    )


def close_opened(source: Source, opened: Library | Client) -> None:
    """Close what `open_source` has opened; a source that was given open stays open."""
    if opened is not source:
        opened.close()


def name_of(source: Source) -> str:
    """Name a source, so that it can be opened again; raises UsageError for a client."""
    if isinstance(source, Library):
        return str(source.path)
    if isinstance(source, Client):
        raise UsageError("A client cannot be written down: give the URL of the service instead.")
    return str(source)


def find(source: Library | Client, text: str, k: int, options: Mapping[str, Any]) -> list[Found]:
    """Search, and return the hits in their order.

    Args:
        source: What to search.
        text: Text to search for.
        k: Maximum number of hits.
        options: As `Library.search` and `Client.search` take them; `where` can be a dict. The
            modality is `any` where they name none.

    Raises:
        UsageError: Invalid options.
    """
    asked = {"modality": "any", **options}
    if isinstance(where := asked.get("where"), Mapping):
        try:
            asked["where"] = Filter.model_validate(where)
        except ValidationError as error:
            raise UsageError(first_problem(error)) from None
    answer = source.search(text, k=k, **asked)
    told = answer if isinstance(answer, ServedAnswer) else ServedAnswer.of(answer, text)
    return [_found(hit) for hit in told.hits]


def _found(hit: ServedHit) -> Found:
    facts = hit.model_dump(mode="json")
    text = hit.text or "\n".join(f"{name}: {value}" for name, value in (hit.columns or {}).items())
    return Found(
        id=str(hit.item_id),
        text=text or Path(hit.path).name,
        score=hit.similarity if hit.relevance is None else hit.relevance,
        metadata={name: facts[name] for name in _TOLD if facts[name] is not None},
    )
