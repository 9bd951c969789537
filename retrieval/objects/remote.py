"""Object stores and web servers, through fsspec: list, stat, open, fetch.

Credentials are found by the SDK of each store, in the environment and its own files, and are
neither kept nor printed. No request waits longer than MMSEARCH_SOURCE_TIMEOUT for an answer.
"""

import errno
import importlib
import io
import os
import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from retrieval.errors import MissingExtraError, MMSearchError, UsageError, import_errors_as
from retrieval.objects.base import UNKNOWN_TIME, FileStatus, Listed, Source
from retrieval.objects.fetched import IN_MEMORY_BYTES, FetchedObject, Fetcher
from retrieval.objects.paths import is_web
from retrieval.objects.trust import require_trusted_uri
from retrieval.objects.web import links_of

_T = TypeVar("_T")

TIMEOUT_VARIABLE = "MMSEARCH_SOURCE_TIMEOUT"
_DEFAULT_TIMEOUT_S = 30.0
_CONNECT_S = 15.0
_MOST_PAGE_BYTES = 64 << 20
"""Of an index page."""
_BLOCK_BYTES = 4 << 20
_EXTRAS = {"gs": "gcs", "az": "azure"}
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CONNECTION_STRING|CREDENTIAL", re.IGNORECASE)
_LEAST_SECRET = 6
_NO_RANGES = 200


def timeout_s() -> float:
    """Return how many seconds a server may take to answer; raises UsageError."""
    given = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(given) if given else _DEFAULT_TIMEOUT_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{TIMEOUT_VARIABLE} is {given!r}, which is no number of seconds.")
    return seconds


class _AnswerError(Exception):
    """What a web server answered, as number and reason of an OSError."""


def source_of(uri: str) -> Source:
    """Return what lists and opens a URI. Raises PermissionError where nobody trusts it."""
    return remote_of(uri)


def remote_of(uri: str) -> "RemoteFolder":
    """Return the store or web server of a URI, as `source_of`."""
    require_trusted_uri(uri)
    return _opened(uri.partition(":")[0], os.getpid(), timeout_s())


@lru_cache(maxsize=8)
def _opened(scheme: str, _process: int, timeout: float) -> "RemoteFolder":
    return (WebFolder if scheme in {"http", "https"} else RemoteFolder)(scheme, timeout)


class RemoteFolder:
    """An object store: buckets, or containers, of one kind."""

    def __init__(self, scheme: str, timeout: float) -> None:
        self._scheme = scheme
        self._timeout = timeout
        self._system = _file_system(scheme, timeout)

    def list(self, folder: str) -> Iterator[Listed]:
        """List what is directly in a folder; as `Source`."""
        with _errors_as_os(folder):
            found = self._system.ls(folder, detail=True, refresh=True)
        for info in found:
            path = f"{self._scheme}://" + str(info["name"]).strip("/")
            # A mark of the folder itself, and keys with empty names, which are no paths.
            if path.rpartition("/")[0] == folder and path != folder:
                is_folder = info["type"] == "directory"
                yield Listed(path, is_folder, None if is_folder else _status(info))

    def stat(self, path: str) -> FileStatus:
        """Look at an object; as `Source`."""
        with _errors_as_os(path):
            info = self._system.info(path, refresh=True)
        if info["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        return _status(info)

    def open(self, path: str) -> BinaryIO:
        """Open an object, of which parts are read as they are asked for; as `Source`."""
        with _errors_as_os(path):
            opened = self._system.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")
        return io.BufferedReader(_Guarded(opened, path))

    def fetch(self, path: str, size: int) -> FetchedObject:
        """Read an object whole, of `size` bytes or -1; UnreadableFileError for a too large one."""
        fetcher = Fetcher()
        if 0 <= size <= IN_MEMORY_BYTES:
            with _errors_as_os(path):
                fetcher.write(self._system.cat_file(path))
            return fetcher.done()
        with self.open(path) as opened:
            while part := opened.read(_BLOCK_BYTES):
                fetcher.write(part)
        return fetcher.done()

    def read_range(self, path: str, start: int, size: int) -> bytes | None:
        """Read some bytes of an object; None where its server reads objects only as a whole."""
        if size == 0:
            return b""
        with _errors_as_os(path):
            return cast("bytes", self._system.cat_file(path, start=start, end=start + size))


class WebFolder(RemoteFolder):
    """Folders of a web server with an index page each.

    A link of the page to what lies directly below it is an object, or a folder with a slash at its
    end. Redirections to other hosts are not followed.
    """

    def list(self, folder: str) -> Iterator[Listed]:
        """List the links of an index page; as `Source`."""
        page, address = self._run(folder, self._page(folder + "/"))
        for link in links_of(page, address):
            yield Listed(folder + "/" + link.rstrip("/"), link.endswith("/"))

    def stat(self, path: str) -> FileStatus:
        """Look at an object by its headers; as `Source`."""
        return self._run(path, self._stat(path))

    def open(self, path: str) -> BinaryIO:
        """Read an object whole: few servers tell sizes and parts for sure."""
        return self.fetch(path).open()

    def fetch(self, path: str, _size: int = -1) -> FetchedObject:
        """Read an object whole; as `RemoteFolder`."""
        return self._run(path, self._fetch(path), self._timeout * 100)

    def read_range(self, path: str, start: int, size: int) -> bytes | None:
        """Read some bytes of an object; as `RemoteFolder`."""
        return self._run(path, self._read_range(path, start, size)) if size else b""

    def _run(self, path: str, work: Awaitable[_T], limit_s: float | None = None) -> _T:
        sync = importlib.import_module("fsspec.asyn").sync

        async def run() -> _T:
            return await work

        with _errors_as_os(path):
            # Besides the wait for each answer, so that no server holds one byte by byte.
            found = sync(self._system.loop, run, timeout=limit_s or 4 * self._timeout)
            return cast("_T", found)

    async def _page(self, address: str) -> tuple[str, str]:
        session = await self._system.set_session()
        async with session.get(self._system.encode_url(address)) as response:
            _require_found(response)
            if "html" not in response.headers.get("Content-Type", "text/html"):
                raise _AnswerError(errno.ENOTDIR, "it has no index page")
            content = bytearray(await response.content.read(1))
            while len(content) <= _MOST_PAGE_BYTES and (part := await response.content.readany()):
                content += part
            if len(content) > _MOST_PAGE_BYTES:
                raise _AnswerError(errno.EFBIG, "its index page is too large")
            encoding = response.charset or "utf-8"
            try:
                return content.decode(encoding, "replace"), str(response.url)
            except LookupError:
                return content.decode("utf-8", "replace"), str(response.url)

    async def _stat(self, address: str) -> FileStatus:
        session = await self._system.set_session()
        plain = {"Accept-Encoding": "identity"}
        for ask in (session.head, session.get):
            async with ask(
                self._system.encode_url(address), headers=plain, allow_redirects=True
            ) as response:
                has_no_head = response.status in {405, 501} or (
                    response.status < 400 and "Content-Length" not in response.headers
                )
                if ask is session.head and has_no_head:
                    continue
                _require_found(response)
                return _status_of_headers(response.headers)
        raise AssertionError("unreachable")

    async def _fetch(self, address: str) -> FetchedObject:
        session = await self._system.set_session()
        fetcher = Fetcher()
        plain = {"Accept-Encoding": "identity"}
        async with session.get(self._system.encode_url(address), headers=plain) as response:
            _require_found(response)
            async for part in response.content.iter_chunked(_BLOCK_BYTES):
                fetcher.write(part)
        return fetcher.done()

    async def _read_range(self, address: str, start: int, size: int) -> bytes | None:
        session = await self._system.set_session()
        asked = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{start + size - 1}"}
        async with session.get(self._system.encode_url(address), headers=asked) as response:
            _require_found(response)
            if response.status == _NO_RANGES:
                return None
            content = bytearray(await response.content.read(size))
            while len(content) < size and (part := await response.content.readany()):
                content += part
            return bytes(content[:size])


def _file_system(scheme: str, timeout: float) -> Any:
    what = f"Sources with {scheme}:// addresses"
    with import_errors_as(MissingExtraError(what, _EXTRAS.get(scheme, "cluster"))):
        fsspec = importlib.import_module("fsspec")
        options = _options(scheme, timeout)
        return fsspec.filesystem(
            scheme, use_listings_cache=False, skip_instance_cache=True, **options
        )


def _options(scheme: str, timeout: float) -> dict[str, Any]:
    connect = min(_CONNECT_S, timeout)
    match scheme:
        case "s3":
            limits = {"connect_timeout": connect, "read_timeout": timeout}
            return {"config_kwargs": {**limits, "retries": {"max_attempts": 2}}}
        case "gs":
            return {"requests_timeout": timeout}
        case "az":
            return {"connection_timeout": int(connect) or 1, "read_timeout": int(timeout) or 1}
        case _:
            import aiohttp

            limit = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=timeout)
            return {"client_kwargs": {"timeout": limit, "trust_env": True}, "get_client": _client}


async def _client(**options: Any) -> Any:
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_require_same_host)
    return aiohttp.ClientSession(**options, trace_configs=[trace])


async def _require_same_host(_session: object, _context: object, asked: Any) -> None:
    """Stop at a redirection: a server may not lead into the network of whoever asks it."""
    headers = asked.response.headers
    # aiohttp goes where `URI` leads in the absence of `Location`.
    target = asked.url.join(type(asked.url)(headers.get("Location") or headers.get("URI") or ""))
    if (target.host, target.port) != (asked.url.host, asked.url.port):
        schemes = (asked.url.scheme, target.scheme)
        is_same_host = target.host == asked.url.host
        is_upgrade = is_same_host and schemes == ("http", "https") and target.is_default_port()
        if not is_upgrade:
            raise _AnswerError(
                errno.EACCES, f"it leads to another server ({target.host}), which was not asked"
            )


def _require_found(response: Any) -> None:
    if response.status in {404, 410}:
        raise _AnswerError(errno.ENOENT, "it is not there")
    if response.status in {401, 403}:
        raise _AnswerError(errno.EACCES, f"access is denied (HTTP {response.status})")
    if response.status >= 300:
        raise _AnswerError(errno.EIO, f"its server answered with HTTP {response.status}")


def _status_of_headers(headers: Any) -> FileStatus:
    try:
        size = int(headers.get("Content-Length", ""))
    except ValueError:
        size = -1
    changed = headers.get("Last-Modified")
    try:
        mtime_ns = _nanoseconds(parsedate_to_datetime(changed)) if changed else UNKNOWN_TIME
    except ValueError:
        mtime_ns = UNKNOWN_TIME
    return FileStatus(size, mtime_ns, headers.get("ETag") or None)


def _status(info: dict[str, Any]) -> FileStatus:
    """Read what a store says of an object; each has names of its own for it."""
    told = {key.lower().replace("-", "").replace("_", ""): value for key, value in info.items()}
    changed = told.get("lastmodified") or told.get("updated") or told.get("mtime")
    if isinstance(changed, str):
        try:
            changed = datetime.fromisoformat(changed)
        except ValueError:
            changed = None
    mtime_ns = _nanoseconds(changed) if isinstance(changed, datetime) else UNKNOWN_TIME
    etag = str(told.get("etag") or "").strip('"')
    return FileStatus(int(info.get("size") or 0), mtime_ns, etag or None)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


@contextmanager
def _errors_as_os(path: str) -> Iterator[None]:
    """Raise what an SDK raises as OSError, with a reason that holds no credential."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "it is not there") from error
    except MMSearchError:
        raise
    except _AnswerError as error:
        # By its number, Python makes it a FileNotFoundError, PermissionError and so on.
        raise OSError(*error.args) from None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise PermissionError(errno.EACCES, "access is denied") from None
        kind = TimeoutError if isinstance(error, TimeoutError) else OSError
        raise kind(errno.EIO, _reason(error, path)) from None
    except Exception as error:  # noqa: BLE001 - each SDK has errors of its own
        raise OSError(errno.EIO, _reason(error, path)) from None


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return f"its server {_host(path)} gave no answer in time"
    if "NoCredentials" in type(error).__name__:
        return "no credentials for it were found in the environment"
    text = str(error).split("\n", 1)[0][:200] or type(error).__name__
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _LEAST_SECRET:
            text = text.replace(value, "***")
    return f"its server {_host(path)} cannot be used: {text}"


def _host(path: str) -> str:
    return urlsplit(path).netloc if is_web(path) else path.partition("://")[2].partition("/")[0]


class _Guarded(io.RawIOBase):
    """An open object whose errors are OSErrors."""

    def __init__(self, opened: Any, path: str) -> None:
        super().__init__()
        self._opened = opened
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _errors_as_os(self._path):
            content = self._opened.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _errors_as_os(self._path):
            return cast("int", self._opened.seek(offset, whence))

    def tell(self) -> int:
        return cast("int", self._opened.tell())

    def close(self) -> None:
        self._opened.close()
        super().close()
