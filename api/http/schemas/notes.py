"""Schemas of what could not be read of the library's files."""

from typing import Annotated

from pydantic import BaseModel, Field

from api.http.schemas.items import ServedPath


class Failure(BaseModel):
    """A file that could not be read."""

    path: ServedPath
    reason: str


class Notes(BaseModel):
    """A file that is indexed, and what could not be read of it."""

    path: ServedPath
    notes: list[str]


class PassedOver(BaseModel):
    """What the last walks of the sources passed over."""

    endings: Annotated[
        dict[str, int], Field(description="Number of files of other kinds, by ending.")
    ]
    system_folders: Annotated[
        dict[str, int],
        Field(description="Number of folders of NAS boxes, systems and programs, by name."),
    ]


class NoteList(BaseModel):
    """The files that failed, and those that were read in part, by path."""

    failures: list[Failure]
    notes: list[Notes]
    files_failed: Annotated[int, Field(description="All failed files, also those not listed.")]
    files_noted: Annotated[int, Field(description="All files with notes, also those not listed.")]
    reasons: Annotated[
        dict[str, int],
        Field(description="Number of failed files by reason, most first; at most 100 reasons."),
    ] = {}
    passed_over: PassedOver
