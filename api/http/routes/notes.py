"""What could not be read: files that failed, and notes on those that were indexed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.http.routes.dependencies import CurrentService, require
from api.http.schemas import valid_text
from api.http.schemas.notes import Failure, NoteList, Notes

router = APIRouter(prefix="/v1", tags=["library"], dependencies=[Depends(require("read"))])

Limit = Annotated[int, Query(ge=1, le=10_000, description="Maximum number of files of each list.")]


@router.get("/notes")
def list_notes(service: CurrentService, limit: Limit = 1000) -> NoteList:
    """List the files that could not be read, and what could not be read of the others."""
    with service.library.catalog.snapshot() as snapshot:
        failures, noted = snapshot.failures(), snapshot.notes()
    return NoteList(
        failures=[Failure(path=f.path, reason=valid_text(f.failure)) for f in failures[:limit]],
        notes=[
            Notes(path=f.path, notes=[valid_text(note) for note in f.notes]) for f in noted[:limit]
        ],
        files_failed=len(failures),
        files_noted=len(noted),
    )
