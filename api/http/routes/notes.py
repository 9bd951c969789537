"""What could not be read: files that failed, and notes on those that were indexed."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.http.routes.dependencies import CurrentService, require
from api.http.schemas import valid_text
from api.http.schemas.notes import Failure, NoteList, Notes, PassedOver

router = APIRouter(prefix="/v1", tags=["library"], dependencies=[Depends(require("read"))])

_MOST_REASONS = 100

Limit = Annotated[int, Query(ge=1, le=10_000, description="Maximum number of files of each list.")]


Reason = Annotated[
    str | None, Query(max_length=1000, description="List only files that failed for this reason.")
]


@router.get("/notes")
def list_notes(service: CurrentService, limit: Limit = 1000, reason: Reason = None) -> NoteList:
    """List the files that could not be read, and what could not be read of the others."""
    with service.library.catalog.snapshot() as snapshot:
        failures, noted, seen = snapshot.failures(), snapshot.notes(), snapshot.seen()
    told = [Failure(path=f.path, reason=valid_text(f.failure)) for f in failures]
    reasons = Counter(failure.reason for failure in told)
    listed = [failure for failure in told if reason is None or failure.reason == reason]
    return NoteList(
        failures=listed[:limit],
        notes=[
            Notes(path=f.path, notes=[valid_text(note) for note in f.notes]) for f in noted[:limit]
        ],
        files_failed=len(failures),
        files_noted=len(noted),
        reasons=dict(reasons.most_common(_MOST_REASONS)),
        passed_over=PassedOver(endings=seen.endings, system_folders=seen.system_folders),
    )
