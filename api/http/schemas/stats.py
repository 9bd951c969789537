"""What a service tells of itself and its library."""

from typing import Annotated

from pydantic import BaseModel, Field

from retrieval.catalog import Modality
from retrieval.media import MediaKind


class IndexStats(BaseModel):
    """How the vectors of one modality are searched."""

    modality: Modality
    kind: Annotated[str, Field(description="`exact`, or the FAISS factory string of the index.")]
    rows: Annotated[int, Field(description="Vectors, those of removed items included.")]
    rows_covered: Annotated[int, Field(description="By the index; the rest is compared exactly.")]
    generation: Annotated[int | None, Field(description="Number of the index.")]
    created: str | None
    reasons: Annotated[list[str], Field(description="Why it is searched like that.")]


class CacheStats(BaseModel):
    """How often the vector of a text was still known from an earlier query, since the start."""

    hits: int
    misses: int


class Stats(BaseModel):
    """The library, how it is searched, and what the caller may do."""

    version: str
    images: Annotated[int, Field(description="Images, frames and pages that can be found.")]
    texts: Annotated[int, Field(description="Passages that can be found.")]
    files_indexed: int
    files_failed: int
    files_removed: int
    sources: list[str]
    kinds: Annotated[dict[MediaKind, int], Field(description="Files that can be found.")]
    taken_between: Annotated[
        tuple[int, int] | None,
        Field(description="When the first and the last file was taken, seconds since 1970."),
    ]
    cameras: Annotated[list[str], Field(description="Names of cameras, for filters.")]
    columns: Annotated[
        dict[str, list[str | int | float | bool]],
        Field(description="Columns of tables, for filters, each with some values."),
    ]
    space: str
    spaces: list[str]
    encoder: str
    dimension: int
    reranker: Annotated[str | None, Field(description="null: hits are not reranked.")]
    default_min_relevance: Annotated[
        float, Field(description="From what relevance on the page shows hits of a text.")
    ]
    indices: list[IndexStats]
    vector_cache: CacheStats
    uploads: Annotated[bool, Field(description="Whether `POST /v1/items` takes files.")]
    scopes: Annotated[list[str], Field(description="What the key of this request allows.")]
    jobs_waiting: Annotated[int, Field(description="Also the one that runs.")]
