"""Thumbnails and files of items."""

from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.http.files import content_type, file_headers, matches, not_modified, respond
from api.http.middleware.keys import Client
from api.http.middleware.tickets import Tickets, mark_of
from api.http.root_path import at_root_path
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import ItemId, current_item
from api.http.schemas import FileLink, FileRequest, ThumbnailRequest
from api.http.schemas.items import ThumbnailFormat
from api.http.thumbnails import thumbnail
from retrieval.catalog import Item
from retrieval.errors import NotFoundError

router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[Depends(require("read"))])

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.head("/{item_id}/thumbnail", include_in_schema=False)
@router.get(
    "/{item_id}/thumbnail",
    response_class=Response,
    responses={
        200: {
            "description": "The thumbnail",
            "content": {"image/webp": _BINARY, "image/jpeg": _BINARY},
        },
        304: {"description": "Not modified"},
    },
)
async def get_thumbnail(
    item_id: ItemId,
    asked: Annotated[ThumbnailRequest, Query()],
    service: CurrentService,
    accept: Annotated[str, Header()] = "",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a thumbnail of an item: no side is longer than `size` pixels.

    Hits and items have its URL with a parameter `v`, so that browsers may cache it for ever.
    """
    item = await run_in_threadpool(current_item, service, item_id)
    service.show([item])
    form = asked.format or _understood(accept)
    is_lasting = asked.v == item.picture_key
    headers = {
        "ETag": f'"{item.picture_key}-{int(asked.size)}-{form}"',
        "Cache-Control": f"private, {'max-age=31536000, immutable' if is_lasting else 'no-cache'}",
        **({} if asked.format else {"Vary": "Accept"}),
    }
    if matches(headers["ETag"], if_none_match):
        return not_modified(headers)
    content = await service.decoding.run(
        lambda: thumbnail(service.library, service.files, item, asked.size, form)
    )
    return Response(content, media_type=f"image/{form}", headers=headers)


@router.get(
    "/{item_id}/file",
    response_class=Response,
    responses={
        200: {"description": "The file", "content": {"*/*": _BINARY}},
        206: {"description": "The requested range", "content": {"*/*": _BINARY}},
        304: {"description": "Not modified"},
    },
)
async def get_file(
    request: Request,
    item_id: ItemId,
    asked: Annotated[FileRequest, Query()],
    service: CurrentService,
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the file of an item, or a byte range of it.

    Only if it is unchanged since it was indexed, and lies below a source of the library.
    """
    opened = await run_in_threadpool(_open, service, item_id, asked.download, request.state.client)
    item, file, headers = opened
    given = {"range": range_, "if-range": if_range, "if-none-match": if_none_match}
    return respond(
        file, item.size, headers, {name: value for name, value in given.items() if value}
    )


@router.head("/{item_id}/file", response_class=Response)
async def head_file(
    request: Request,
    item_id: ItemId,
    asked: Annotated[FileRequest, Query()],
    service: CurrentService,
) -> Response:
    """Return size and type of the file of an item."""
    opened = await run_in_threadpool(_open, service, item_id, asked.download, request.state.client)
    item, file, headers = opened
    file.close()
    return Response(headers={**headers, "Content-Length": str(item.size)})


@router.post("/{item_id}/link")
async def make_link(item_id: ItemId, request: Request, service: CurrentService) -> FileLink:
    """Make an address of the file of an item that a player or a link can use without an API key.

    It is valid for that file alone, for twelve hours, and no longer than the key or the service.
    """
    item = await run_in_threadpool(current_item, service, item_id)
    path = request.scope["path"].removesuffix("/link") + "/file"
    client: Client = request.state.client
    if client.name is None:
        return FileLink(url=at_root_path(path), expires_at=None)
    tickets: Tickets = request.app.state.tickets
    ticket, ends = tickets.issue(client, path, item.path)
    address = f"{at_root_path(path)}?{urlencode({'ticket': ticket})}"
    return FileLink(url=address, expires_at=datetime.fromtimestamp(ends, UTC))


def _open(
    service: Service, item_id: int, as_download: bool, client: Client
) -> tuple[Item, BinaryIO, dict[str, str]]:
    item = current_item(service, item_id)
    if client.only not in {None, mark_of(item.path)}:
        raise NotFoundError(f"Item {item_id} is of another file than when its address was made.")
    file = service.files.open(item)
    try:
        headers = file_headers(
            item.path,
            content_type(file, item),
            f'"{item.content_hash}"',
            as_download=as_download,
        )
    except BaseException:
        file.close()
        raise
    return item, file, headers


def _understood(accept: str) -> ThumbnailFormat:
    return ThumbnailFormat.WEBP if "image/webp" in accept else ThumbnailFormat.JPEG
