"""Downloads of several files as one archive."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.http.archives import TICKET_S, Ticket, one_item_a_file, safe_name, zip_of
from api.http.files import content_disposition
from api.http.root_path import at_root_path
from api.http.routes.dependencies import (
    CurrentService,
    NoLibrary,
    PossibleService,
    Service,
    require,
)
from api.http.schemas.collections import MOST_ITEMS, ArchiveRequest, ArchiveSchema
from retrieval.catalog import Item, Snapshot
from retrieval.errors import NotFoundError, UsageError

router = APIRouter(prefix="/v1/archives", tags=["items"])

Token = Annotated[str, Path(max_length=100, description="From the `url` of an archive.")]


@router.post("", status_code=201, dependencies=[Depends(require("read"))])
def create_archive(asked: ArchiveRequest, service: CurrentService) -> ArchiveSchema:
    """Prepare the download of the files of some items, or of a collection, as one ZIP archive.

    The archive is written while it is downloaded. Of several items of a file, it has the file once.
    """
    with service.library.catalog.snapshot() as snapshot:
        if asked.collection is None:
            item_ids = list(dict.fromkeys(asked.items or ()))
            items = list(snapshot.items_of_ids(item_ids).values())
        else:
            items = _collected(service, snapshot, asked.collection)
            item_ids = [item.id for item in one_item_a_file(items)]
    files = one_item_a_file(items)
    if not files:
        raise NotFoundError("There is no file to download.")
    name = f"{safe_name(asked.collection or f'mmsearch {len(files)} files')}.zip"
    token = service.archives.add(Ticket(name, item_ids))
    return ArchiveSchema(
        url=at_root_path(f"/v1/archives/{token}"),
        name=name,
        files=len(files),
        bytes=sum(item.size for item in files),
        seconds=TICKET_S,
    )


@router.get(
    "/{token}",
    response_class=Response,
    responses={
        200: {
            "description": "The archive",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def get_archive(token: Token, service: PossibleService) -> Response:
    """Download an archive. Files that cannot be read any more are listed in a text inside."""
    # Who has no token, and perhaps no key, is not told where the library is, nor that it is gone.
    if isinstance(service, NoLibrary):
        raise NotFoundError("This address of an archive is not valid any more. Ask again.")
    ticket = service.archives.get(token)
    if gone := service.library.missing():
        raise gone
    with service.library.catalog.snapshot() as snapshot:
        found = snapshot.items_of_ids(ticket.item_ids)
    missing = [item_id for item_id in ticket.item_ids if item_id not in found]
    return _Archive(service, one_item_a_file(list(found.values())), missing, ticket.name)


class _Archive(StreamingResponse):
    """Streams an archive, and closes what is open however that ends."""

    def __init__(self, service: Service, items: list[Item], missing: list[int], name: str) -> None:
        self._content = zip_of(items, service.files, missing)
        super().__init__(
            self._content,
            media_type="application/zip",
            headers={
                "Content-Disposition": content_disposition(name, inline=False),
                "Cache-Control": "private, no-store",
                "X-Content-Type-Options": "nosniff",
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a client that leaves ends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._content.close()


def _collected(service: Service, snapshot: Snapshot, name: str) -> list[Item]:
    found = snapshot.items_of_collection(
        service.engine.space.id, snapshot.id_of_collection(name), limit=MOST_ITEMS + 1
    )
    if len(found) > MOST_ITEMS:
        raise UsageError(
            f"An archive has at most {MOST_ITEMS:,} items. Download parts of the collection."
        )
    return [item for _, item in found]
