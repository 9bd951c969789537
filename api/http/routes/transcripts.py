"""Transcripts of speech as files: WebVTT for the `track` of a player, SubRip, plain text."""

from typing import Any

from fastapi import APIRouter, Depends, Response

from api.http.routes.dependencies import CurrentService, require
from api.http.routes.items import ItemId, item_in
from retrieval.errors import NotFoundError
from retrieval.recognition.base import Task
from retrieval.recognition.transcripts import WRITERS, TranscriptForm

router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[Depends(require("read"))])


_AS_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {kind.partition(";")[0]: {} for kind, _ in WRITERS.values()},
        "description": "The transcript of the item's file.",
    }
}


@router.get("/{item_id}/transcript.{form}", response_class=Response, responses=_AS_FILE)
def get_transcript(item_id: ItemId, form: TranscriptForm, service: CurrentService) -> Response:
    """Download what is said in the file of an item, with times, as WebVTT, SubRip or plain text."""
    with service.library.catalog.snapshot() as snapshot:
        found = snapshot.enrichments_of(item_in(snapshot, item_id))
    heard = next((one for one in found if one.task is Task.SPEECH and one.segments), None)
    if heard is None:
        raise NotFoundError(f"There is no transcript of the file of item {item_id}.")
    content_type, write = WRITERS[form]
    return Response(write(heard.segments), media_type=content_type)
