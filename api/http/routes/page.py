"""Serve the web page at `/`: only files of the package `api.http.ui`.

All files are read once. Their URLs contain a digest of all files, so that browsers can cache them
for ever and never mix the files of two versions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated

import xxhash
from fastapi import APIRouter, Header, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_INDEX = "index.html"
_VERSION_MARK = b"@version@"
_LANGUAGES_MARK = b"@languages@"
_FILES_MARK = b"@files@"
_SERVICE_WORKER = "service-worker.js"
_LANGUAGES = "languages"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content: bytes
    media_type: str
    tag: str


@dataclass(frozen=True)
class Assets:
    """All files of the page by name, and their common version."""

    version: str
    by_name: Mapping[str, Asset]


@cache
def assets() -> Assets:
    """Read the files of the page."""
    folder = files("api.http.ui")
    contents = _read(folder) | {
        f"{_LANGUAGES}/{name}": content for name, content in _read(folder / _LANGUAGES).items()
    }
    digest = xxhash.xxh3_128()
    for name in sorted(contents):
        digest.update(name.encode() + b"\0" + contents[name] + b"\0")
    version = digest.hexdigest()[:16]
    tags = [PurePosixPath(name).stem for name in sorted(contents) if name.startswith(_LANGUAGES)]
    shell = [name for name in sorted(contents) if name not in {_INDEX, _SERVICE_WORKER}]
    marks = {
        _VERSION_MARK: version,
        _LANGUAGES_MARK: " ".join(tags),
        _FILES_MARK: " ".join(shell),
    }
    for name in (_INDEX, _SERVICE_WORKER):
        for mark, text in marks.items():
            contents[name] = contents[name].replace(mark, text.encode())
    by_name = {
        name: Asset(
            content,
            _MEDIA_TYPES[PurePosixPath(name).suffix],
            f'"{xxhash.xxh3_128_hexdigest(content)}"',
        )
        for name, content in contents.items()
    }
    return Assets(version, MappingProxyType(by_name))


def _read(folder: Traversable) -> dict[str, bytes]:
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if PurePosixPath(entry.name).suffix in _MEDIA_TYPES
    }


@router.head("/")
@router.get("/")
def index(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return the page; browsers revalidate it each time."""
    return _answer(assets().by_name[_INDEX], "no-cache", if_none_match)


@router.head("/service-worker.js")
@router.get("/service-worker.js")
def service_worker(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return the service worker, which is above the page, and changes with each version of it."""
    return _answer(assets().by_name[_SERVICE_WORKER], "no-cache", if_none_match)


@router.head("/ui/{version}/{name}")
@router.get("/ui/{version}/{name}")
def asset(
    version: str, name: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Return a file of the current version of the page."""
    known = assets()
    if version != known.version or name not in known.by_name:
        raise HTTPException(404, "The page has no such file.")
    return _answer(known.by_name[name], "public, max-age=31536000, immutable", if_none_match)


@router.head("/ui/{version}/languages/{name}")
@router.get("/ui/{version}/languages/{name}")
def language(
    version: str, name: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Return the texts of the page in a language."""
    return asset(version, f"{_LANGUAGES}/{name}", if_none_match)


def _answer(asset: Asset, caching: str, if_none_match: str | None) -> Response:
    headers = {"ETag": asset.tag, "Cache-Control": caching}
    if if_none_match and asset.tag in (part.strip() for part in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)
