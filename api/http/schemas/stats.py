"""Schema of the statistics of a service and its library."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from api.http.schemas.notes import PassedOver
from retrieval.media import MediaKind, Modality
from retrieval.recognition.base import Task


class IndexStats(BaseModel):
    """Index of one modality."""

    modality: Modality
    kind: Annotated[str, Field(description="`exact`, or the FAISS factory string of the index.")]
    rows: Annotated[int, Field(description="Number of vectors, including removed items.")]
    rows_covered: Annotated[
        int, Field(description="Rows in the index; the others are searched exactly.")
    ]
    generation: Annotated[int | None, Field(description="Generation of the index.")]
    created: str | None
    reasons: Annotated[list[str], Field(description="Reasons for this kind of index.")]


class CacheStats(BaseModel):
    """Hits and misses of the cache of query vectors, since the start."""

    hits: int
    misses: int


class KnownLanguages(BaseModel):
    """Languages of queries."""

    known: Annotated[list[str], Field(description="ISO 639 codes, sorted.")]
    are_all: Annotated[bool, Field(description="Whether the encoder knows no others.")]


class Stats(BaseModel):
    """The library, its indices, and the permissions of the caller."""

    version: str
    images: Annotated[int, Field(description="Searchable images, frames and pages.")]
    texts: Annotated[int, Field(description="Searchable chunks of text.")]
    sounds: Annotated[int, Field(description="Searchable windows of sound.")] = 0
    files_indexed: int
    files_failed: int
    files_noted: Annotated[
        int, Field(description="Indexed files of which something could not be read.")
    ] = 0
    files_removed: int
    items_hidden: Annotated[
        int, Field(description="Of the images and texts, those that are hidden.")
    ] = 0
    files_dated_by_mtime: Annotated[
        int,
        Field(description="Images and videos whose only date is that of their modification."),
    ]
    passed_over: PassedOver
    sources: list[str]
    missing_sources: Annotated[
        list[str], Field(description="Sources that are not there, or are empty folders.")
    ]
    kinds: Annotated[dict[MediaKind, int], Field(description="Searchable files by kind.")]
    taken_between: Annotated[
        tuple[int, int] | None,
        Field(description="Unix times when the first and the last file was taken."),
    ]
    cameras: Annotated[list[str], Field(description="Camera names, for filters.")]
    columns: Annotated[
        dict[str, list[str | int | float | bool]],
        Field(description="Table columns with some of their values, for filters."),
    ]
    space: str
    spaces: Annotated[list[str], Field(description="Ids of all spaces of the library.")]
    searched_spaces: Annotated[
        list[str], Field(description="Ids of those that a search can name, the default one first.")
    ]
    encoder: str
    dimension: int
    languages: Annotated[
        KnownLanguages | None,
        Field(description="Languages that the encoder knows; null: nothing is known of them."),
    ] = None
    reranker: Annotated[str | None, Field(description="Name of the reranker; null: none.")]
    default_min_relevance: Annotated[
        float | Literal["auto"],
        Field(description="Minimum relevance of the page for hits of a text; auto: by query."),
    ]
    indices: list[IndexStats]
    vector_cache: CacheStats
    texts_by: Annotated[
        dict[Task, str],
        Field(description="Names of the models that look for texts in what is indexed, by task."),
    ] = {}
    can_find_text_in_pictures: Annotated[
        bool, Field(description="Whether `ocr` of `POST /v1/index` can be true here.")
    ] = False
    can_describe_images: Annotated[
        bool, Field(description="Whether the service has a model for `POST /v1/describe`.")
    ] = False
    uploads: Annotated[bool, Field(description="Whether `POST /v1/items` accepts files.")]
    max_upload_bytes: Annotated[
        int, Field(description="Maximum size of a request, and so of an uploaded file.")
    ] = 0
    index_below: Annotated[
        list[str],
        Field(description="Folders below which new sources may be added, for keys that write."),
    ] = []
    first_command: Annotated[
        str, Field(description="What adds a folder to this library in a terminal.")
    ] = ""
    warnings: Annotated[
        list[str], Field(description="Damage of the library as a whole, and what to do.")
    ] = []
    scopes: Annotated[list[str], Field(description="Scopes of the API key of this request.")]
    jobs_waiting: Annotated[
        int, Field(description="Number of unfinished jobs, with the running one.")
    ]
