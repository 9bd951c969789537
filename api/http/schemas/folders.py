"""Schemas of folders that can be added to the library."""

from typing import Annotated

from pydantic import BaseModel, Field


class Folder(BaseModel):
    """A folder of the machine of the service."""

    name: str
    path: str
    is_source: Annotated[bool, Field(description="Whether it is a source, or lies in one.")]


class FolderList(BaseModel):
    """The folders in a folder, or those that all others lie in."""

    path: Annotated[str | None, Field(description="null: the folders of `--index-below`.")]
    parent: Annotated[str | None, Field(description="null: none, or one that may not be indexed.")]
    folders: Annotated[list[Folder], Field(description="By name, without hidden ones and links.")]
    files: Annotated[
        int, Field(description="Files right in it whose names are of known formats; at most 10,000")
    ]
    is_cut: Annotated[bool, Field(description="Whether there are more than are listed.")]
