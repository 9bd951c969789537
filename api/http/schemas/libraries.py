"""The libraries of a service that has several."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class LibrarySchema(BaseModel):
    """A named library."""

    name: str
    address: Annotated[str, Field(description="Where its page and its API are.")]
    state: Annotated[
        Literal["ready", "starting", "no library", "failed"],
        Field(description="failed: `detail` says why; the others are served."),
    ]
    detail: Annotated[str | None, Field(description="What to do; null when ready.")] = None


class LibraryList(BaseModel):
    """The libraries in the order in which they were named; the first one has the page at `/`."""

    libraries: list[LibrarySchema]
