"""Schemas of a library as a whole: its creation, its changes, its storage and its spaces."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class LibraryRequest(BaseModel):
    """How to create the library of the service."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"language": "zh"}]})

    language: Annotated[
        str | None,
        Field(
            max_length=35,
            description="Code of the language of the queries, by which the encoder is chosen.",
        ),
    ] = None


class Creation(BaseModel):
    """A library that was created, or was there already."""

    created: bool
    encoder: str


class Changes(BaseModel):
    """Whether the library has changed, and what was added."""

    revision: Annotated[
        int, Field(description="Differs from that of an earlier answer if the library has changed.")
    ]
    last_item: Annotated[int, Field(description="Id of the item that was added last; 0: none.")]
    images: Annotated[
        int, Field(description="Images, frames and pages added after `after`; at most 10,000.")
    ]
    texts: Annotated[int, Field(description="Chunks added after `after`; at most 10,000.")]
    sounds: Annotated[
        int, Field(description="Windows of sound added after `after`; at most 10,000.")
    ] = 0
    jobs: Annotated[int, Field(description="Number of unfinished jobs of this service.")]


class StorageBytes(BaseModel):
    """Bytes on disk, by part of the library."""

    catalog: int
    embeddings: Annotated[int, Field(description="Vectors of all spaces, with their checksums.")]
    indices: int
    thumbnails: Annotated[int, Field(description="They can be made again.")]
    token_cache: Annotated[int, Field(description="Of rerankers; it can be made again.")]
    other: int
    total: int


class SpaceSchema(BaseModel):
    """A vector space of the library."""

    id: str
    encoder: str
    dimension: int
    is_default: bool
    is_searched: Annotated[bool, Field(description="Whether a search of this service can name it.")]
    images: int
    texts: int
    sounds: int = 0
    files_behind: Annotated[
        int, Field(description="Indexed files that were not embedded in it as they are now.")
    ]


class StorageSchema(BaseModel):
    """What the library takes on disk, its spaces, and what is wrong with it as a whole."""

    library: Annotated[str, Field(description="Directory of the library.")]
    bytes: StorageBytes
    token_cache_limit: Annotated[int, Field(description="Maximum bytes of the token cache.")]
    spaces: Annotated[list[SpaceSchema], Field(description="The default one first.")]
    warnings: Annotated[
        list[str], Field(description="Damage of the library as a whole, and what to do.")
    ]
