"""Clients of the service, synchronous and asynchronous.

`python -m tools.client_package` writes this module; do not edit it.
"""

import asyncio
import base64
import email.utils
import io
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal, Protocol, Self, TypedDict, TypeVar, Unpack

import httpx
from pydantic import BaseModel, ValidationError

from mmsearch_client.errors import MMSearchError, NotFoundError, UsageError, first_problem
from mmsearch_client.models import (
    Answer,
    Archive,
    BatchAnswer,
    Changed,
    Changes,
    Collection,
    CollectionList,
    Creation,
    Embeddings,
    Explanation,
    Facets,
    FacetValues,
    FileLink,
    Filter,
    FolderList,
    GeneratedText,
    GeoBox,
    Item,
    ItemList,
    ItemTexts,
    Job,
    JobList,
    MapPoints,
    Neighbours,
    NoteList,
    Part,
    Removal,
    SavedSearch,
    SavedSearchList,
    SearchRequest,
    Stats,
    Storage,
)

DEFAULT_VALUES = 100
FINAL_STATES = frozenset(["cancelled", "failed", "succeeded"])


class PictureLike(Protocol):
    """What can write itself as a PNG file, such as a PIL image."""

    def save(self, fp: IO[bytes], format: str | None = None) -> None:
        """Write the picture to a stream."""


ImageLike = str | os.PathLike[str] | bytes | PictureLike
"Path of an image file, its content, or a PIL image."
AudioLike = str | os.PathLike[str] | bytes
"Path of a sound file, or its content."
_Model = TypeVar("_Model", bound=BaseModel)
_RETRYABLE = frozenset({429, 503})
_FIRST_PAUSE_S = 0.5
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_WAIT_TIMEOUT = httpx.Timeout(90.0, connect=5.0)
"For requests with `wait`, which the service answers after at most a minute."


class ServiceError(MMSearchError):
    """The service answered with an error. status: HTTP status; None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AccessDeniedError(ServiceError):
    """The API key is missing, unknown, or lacks the scope."""


class BusyError(ServiceError):
    """The service is overloaded or not ready, even after the retries."""


class UnreachableError(ServiceError):
    """No answer: wrong address, no service there, no network, or timeout."""


def search_request(fields: dict[str, Any]) -> SearchRequest:
    """Build a search request from its fields; raises UsageError for invalid ones."""
    try:
        return SearchRequest.model_validate(fields)
    except ValidationError as error:
        raise UsageError(first_problem(error)) from None


class SearchOptions(TypedDict, total=False):
    """The fields of `SearchRequest`."""

    item: int | None
    parts: list[Part]
    k: int
    cursor: str | None
    modality: Literal["image", "text", "audio", "any"]
    spaces: list[str]
    where: Filter | None
    mode: Literal["auto", "vector", "text", "hybrid"]
    min_relevance: float | Literal["auto"] | None
    group_by_file: bool
    diversity: float
    parse: bool
    literal: list[str]
    rerank: Literal["auto", "none"]
    rerank_depth: int | None
    rerank_budget_ms: float
    sort: Literal["relevance", "date", "date-asc", "name"]


class Client:
    """Client of one service; thread-safe.

    Args:
        server: URL of the service, or its host and port.
        api_key: Secret of an API key. (default: `MMSEARCH_API_KEY`)
        timeout: Timeout of one HTTP request, in seconds.
        retries: Maximum number of retries of a request that was refused temporarily (429, 503).
        patience_s: Maximum time in seconds to wait for retries of one request.

    Every method raises NotFoundError, UsageError for invalid arguments, AccessDeniedError,
    BusyError, UnreachableError, and ServiceError for everything else.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        timeout: httpx.Timeout | float = _TIMEOUT,
        retries: int = 3,
        patience_s: float = 30.0,
    ) -> None:
        key = api_key or os.environ.get("MMSEARCH_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._server = server if "://" in server else f"http://{server}"
        self._retries = retries
        self._patience_s = patience_s
        try:
            self._http = httpx.Client(base_url=self._server, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(f"{server!r} is not the address of a service: {error}.") from error

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageLike | None = None,
        audio: AudioLike | None = None,
        **options: Unpack[SearchOptions],
    ) -> Answer:
        """Search by a text, an image, a sound or several; options as fields of `SearchRequest`."""
        given = {
            "text": text,
            "image": None if image is None else in_base64(image),
            "audio": None if audio is None else in_base64(audio),
        }
        return self.ask(search_request({**given, **options}))

    def ask(self, request: SearchRequest) -> Answer:
        """Send a search request."""
        body = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return self._read(Answer, "POST", "/v1/search", json=body)

    def search_many(self, requests: Sequence[SearchRequest]) -> list[Answer | MMSearchError]:
        """Send several searches in one request; one that fails has an error in its place."""
        body = {
            "queries": [
                one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
                for one in requests
            ]
        }
        batch = self._read(BatchAnswer, "POST", "/v1/search/batch", json=body)
        found: list[Answer | MMSearchError] = []
        for entry in batch.answers:
            if entry.problem:
                found.append(_error_of(entry.problem.status, entry.problem.detail))
            elif entry.answer:
                found.append(entry.answer)
        return found

    def facets(
        self,
        text: str | None = None,
        *,
        image: ImageLike | None = None,
        audio: AudioLike | None = None,
        limit: int = DEFAULT_VALUES,
        **options: Unpack[SearchOptions],
    ) -> Facets:
        """Count the hits of a search; without text, files and parts, what passes its filter.

        limit: Maximum number of values of each facet.
        """
        asked = {
            "text": text,
            "image": None if image is None else in_base64(image),
            "audio": None if audio is None else in_base64(audio),
            **options,
        }
        return self.ask_facets(search_request(asked), limit)

    def ask_facets(self, request: SearchRequest, limit: int = DEFAULT_VALUES) -> Facets:
        """Count the hits of a search request."""
        body = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return self._read(Facets, "POST", "/v1/facets", json=body, params={"limit": limit})

    def facet_values(
        self,
        facet: str,
        text: str | None = None,
        *,
        below: Sequence[str] = (),
        contains: str = "",
        limit: int = DEFAULT_VALUES,
        **options: Unpack[SearchOptions],
    ) -> FacetValues:
        """List the values of one facet among the hits of a search, or what passes its filter.

        Args:
            facet: `years`, `months`, `folders`, `places`, `cameras`, `kinds` or `columns.NAME`.
            text: As of `facets`.
            below: The year of months, the path of a folder, or a country and a region.
            contains: Part of the names of the values.
            limit: Maximum number of values.
            options: The fields of `SearchRequest`.
        """
        request = search_request({"text": text, **options})
        body = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        asked = {"facet": facet, "below": list(below), "contains": contains, "limit": limit}
        return self._read(FacetValues, "POST", "/v1/facets/values", json=body, params=_given(asked))

    def items(
        self,
        *,
        where: Filter | None = None,
        modality: Literal["image", "text", "audio"] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        offset: int = 0,
        order: Literal["oldest", "newest", "date", "date-asc", "name", "collection"] = "oldest",
    ) -> ItemList:
        """List items in the order in which they were added, by date or by name.

        Args:
            where: Filter of the items.
            modality: Only items of this modality.
            limit: Maximum number of items, 1 to 1000.
            cursor: `next_cursor` of the previous page.
            offset: Number of items to skip, after the cursor.
            order: `oldest` or `newest` addition first; `date` (newest first) or `date-asc` of the
                photos; `name`: by path; `collection`: as they were added to the collection of the
                filter.
        """
        condition = where.model_dump_json(by_alias=True, exclude_none=True) if where else None
        asked = {
            "limit": limit,
            "cursor": cursor,
            "offset": offset or None,
            "modality": modality,
            "where": condition,
            "order": order,
        }
        return self._read(ItemList, "GET", "/v1/items", params=_given(asked))

    def item(self, item_id: int) -> Item:
        """Describe an item."""
        return self._read(Item, "GET", f"/v1/items/{item_id}")

    def texts(self, item_id: int) -> ItemTexts:
        """List what models found in the picture or the speech of an item."""
        return self._read(ItemTexts, "GET", f"/v1/items/{item_id}/texts")

    def transcript(self, item_id: int, form: Literal["vtt", "srt", "txt"] = "vtt") -> str:
        """Download what is said in the file of an item, as WebVTT, SubRip or plain text."""
        answer = self._request("GET", f"/v1/items/{item_id}/transcript.{form}")
        return answer.content.decode("utf-8")

    def thumbnail(
        self, item_id: int, *, size: int = 320, form: Literal["webp", "jpeg"] = "webp"
    ) -> bytes:
        """Download a thumbnail, its longer side at most `size` pixels.

        size: 160, 320, 640, 1280 or 2560.
        """
        asked = {"size": size, "format": form}
        return self._request("GET", f"/v1/items/{item_id}/thumbnail", params=asked).content

    def file(self, item_id: int) -> bytes:
        """Download the file of an item."""
        return self._request("GET", f"/v1/items/{item_id}/file").content

    def link(self, item_id: int) -> FileLink:
        """Make an address of the file of an item that needs no API key, for players and links."""
        return self._read(FileLink, "POST", f"/v1/items/{item_id}/link")

    def neighbours(self, item_id: int, *, before: int = 1, after: int = 1) -> Neighbours:
        """List the chunks, pages or frames before and after an item in its file."""
        asked = {"before": before, "after": after}
        return self._read(Neighbours, "GET", f"/v1/items/{item_id}/neighbours", params=asked)

    def map_points(
        self, box: GeoBox | None = None, *, cells: int = 40, where: Filter | None = None
    ) -> MapPoints:
        """Count the files with coordinates in a box, by cells of a grid over it.

        box: None for the whole world. cells: number of cells along each side of the box.
        """
        condition = where.model_dump_json(by_alias=True, exclude_none=True) if where else None
        asked = {**(box.model_dump() if box else {}), "cells": cells, "where": condition}
        return self._read(MapPoints, "GET", "/v1/map", params=_given(asked))

    def similar(
        self, item_id: int, *, k: int = 10, cursor: str | None = None, rerank: str = "auto"
    ) -> Answer:
        """Find items similar to an item."""
        asked = _given({"k": k, "cursor": cursor, "rerank": rerank})
        return self._read(Answer, "GET", f"/v1/items/{item_id}/similar", params=asked)

    def embed(self, texts: Sequence[str] = (), images: Sequence[ImageLike] = ()) -> Embeddings:
        """Embed texts and images as unit vectors."""
        body = {"texts": list(texts), "images": [in_base64(image) for image in images]}
        return self._read(Embeddings, "POST", "/v1/embed", json=body)

    def describe(
        self,
        image: ImageLike | None = None,
        *,
        item_id: int | None = None,
        prompt: str | None = None,
        max_tokens: int = 64,
    ) -> GeneratedText:
        """Describe an image, or the picture of an item, where the service has a model for it."""
        asked = {"item": item_id, "prompt": prompt, "max_tokens": max_tokens}
        body = _given({**asked, "image": None if image is None else in_base64(image)})
        return self._read(GeneratedText, "POST", "/v1/describe", json=body)

    def ask_about(
        self,
        question: str,
        image: ImageLike | None = None,
        *,
        item_id: int | None = None,
        max_tokens: int = 64,
    ) -> GeneratedText:
        """Ask a question about an image or an item, where the service has a model for it."""
        asked = {"item": item_id, "question": question, "max_tokens": max_tokens}
        body = _given({**asked, "image": None if image is None else in_base64(image)})
        return self._read(GeneratedText, "POST", "/v1/ask", json=body)

    def explain(self, text: str, item_id: int) -> Explanation:
        """Explain why a text and an item match: what each word adds, and where it looked."""
        asked = {"text": text, "item": item_id}
        return self._read(Explanation, "GET", "/v1/explain", params=asked)

    def upload(
        self, *paths: str | os.PathLike[str], wait: bool = True, idempotency_key: str | None = None
    ) -> Job:
        """Upload files to the library: all of them, or none if one is refused.

        A call that is repeated stores no file twice.

        wait: Wait up to a minute for the job that indexes them; `state` tells if it has finished.
        idempotency_key: Any text; the answer to a repeated call with it is the first job.
        """
        with ExitStack() as stack:
            files = [
                ("files", (Path(path).name, stack.enter_context(Path(path).open("rb"))))
                for path in paths
            ]
            return self._read(
                Job,
                "POST",
                "/v1/items",
                files=files,
                params={"wait": wait},
                headers={"Idempotency-Key": idempotency_key} if idempotency_key else None,
                timeout=_WAIT_TIMEOUT if wait else self._http.timeout,
            )

    def delete(self, item_id: int) -> Removal:
        """Hide the file of an item from searches; delete it if it was uploaded."""
        return self._read(Removal, "DELETE", f"/v1/items/{item_id}")

    def index(
        self,
        paths: Sequence[str] | None = None,
        *,
        retry_failed: bool = False,
        kinds: Sequence[str] | None = None,
        hidden: bool | None = None,
        ocr: bool | None = None,
    ) -> Job:
        """Update the library from all its sources, or from some paths in them.

        Args:
            paths: Absolute paths in sources, or new ones that the service allows.
            retry_failed: Also read files again that failed and have not changed.
            kinds: Kinds of files that the sources named by `paths` are to have.
            hidden: Whether these sources are to have hidden files and folders.
            ocr: Whether to find the text in pictures of the whole library from now on.
        """
        body = {
            "paths": list(paths) if paths else None,
            "retry_failed": retry_failed,
            "kinds": list(kinds) if kinds else None,
            "hidden": hidden,
            **({} if ocr is None else {"ocr": ocr}),
        }
        return self._read(Job, "POST", "/v1/index", json=body)

    def folders(self, path: str | None = None) -> FolderList:
        """List folders that may be added: those of `--index-below`, or those in one of them."""
        asked = _given({"path": path})
        return self._read(FolderList, "GET", "/v1/folders", params=asked)

    def create_library(self, language: str | None = None) -> Creation:
        """Create the library that the service waits for; language: that of the queries."""
        return self._read(Creation, "POST", "/v1/library", json={"language": language})

    def changes(self, after: int = 0) -> Changes:
        """Tell whether the library has changed, and how much was added after an item."""
        return self._read(Changes, "GET", "/v1/changes", params={"after": after})

    def storage(self) -> Storage:
        """Measure what the library takes on disk, and describe its spaces."""
        return self._read(Storage, "GET", "/v1/storage")

    def jobs(self) -> JobList:
        """List jobs, newest first."""
        return self._read(JobList, "GET", "/v1/jobs")

    def job(self, job_id: str) -> Job:
        """Return the current state of a job."""
        return self._read(Job, "GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; a running one ends after its current batch."""
        return self._read(Job, "DELETE", f"/v1/jobs/{job_id}")

    def follow(self, job_id: str) -> Iterator[Job]:
        """Yield a job at each change, until it has finished."""
        headers = {"Accept": "text/event-stream"}
        while True:
            try:
                with self._http.stream("GET", f"/v1/jobs/{job_id}", headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                        raise _error(answer)
                    for line in answer.iter_lines():
                        name, _, value = line.partition(": ")
                        if name == "id":
                            headers["Last-Event-ID"] = value
                        elif name == "data":
                            job = Job.model_validate_json(value)
                            yield job
                            if job.state in FINAL_STATES:
                                return
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            time.sleep(_FIRST_PAUSE_S)

    def notes(self, limit: int = 1000, *, reason: str | None = None) -> NoteList:
        """List the files that could not be read, and what could not be read of the others.

        reason: Only the files that failed for this reason.
        """
        asked = _given({"limit": limit, "reason": reason})
        return self._read(NoteList, "GET", "/v1/notes", params=asked)

    def collections(self) -> CollectionList:
        """List the collections by name."""
        return self._read(CollectionList, "GET", "/v1/collections")

    def create_collection(self, name: str, items: Sequence[int] = ()) -> Collection:
        """Create a collection, of some items."""
        body = {"name": name, "items": list(items)}
        return self._read(Collection, "POST", "/v1/collections", json=body)

    def rename_collection(self, collection_id: int, name: str) -> Collection:
        """Give a collection another name."""
        path = f"/v1/collections/{collection_id}"
        return self._read(Collection, "PATCH", path, json={"name": name})

    def delete_collection(self, collection_id: int) -> None:
        """Delete a collection; its items stay in the library."""
        self._request("DELETE", f"/v1/collections/{collection_id}")

    def add_to_collection(self, collection_id: int, items: Sequence[int]) -> int:
        """Add items at the end of a collection; returns how many were not in it."""
        path = f"/v1/collections/{collection_id}/items"
        return self._read(Changed, "POST", path, json={"items": list(items)}).changed

    def remove_from_collection(self, collection_id: int, items: Sequence[int]) -> int:
        """Take items out of a collection, at most 1000; returns how many were in it."""
        path = f"/v1/collections/{collection_id}/items"
        return self._read(Changed, "DELETE", path, params={"item": list(items)}).changed

    def hide(self, items: Sequence[int]) -> int:
        """Hide items from searches and lists; returns how many were not hidden."""
        return self._read(Changed, "POST", "/v1/hidden", json={"items": list(items)}).changed

    def unhide(self, items: Sequence[int]) -> int:
        """Show hidden items again, at most 1000; returns how many were hidden."""
        return self._read(Changed, "DELETE", "/v1/hidden", params={"item": list(items)}).changed

    def saved_searches(self) -> SavedSearchList:
        """List the saved searches by name."""
        return self._read(SavedSearchList, "GET", "/v1/searches")

    def save_search(self, name: str, request: SearchRequest) -> SavedSearch:
        """Save a search under a name, in place of one that has it."""
        asked = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        body = {"name": name, "request": asked}
        return self._read(SavedSearch, "POST", "/v1/searches", json=body)

    def delete_saved_search(self, search_id: int) -> None:
        """Delete a saved search."""
        self._request("DELETE", f"/v1/searches/{search_id}")

    def download(
        self,
        file: str | os.PathLike[str],
        *,
        items: Sequence[int] | None = None,
        collection: str | None = None,
    ) -> Archive:
        """Download the files of items, or of a collection, as a ZIP archive.

        file: where to write it. Returns what is in it.
        """
        body = _given({"items": None if items is None else list(items), "collection": collection})
        archive = self._read(Archive, "POST", "/v1/archives", json=body)
        try:
            with self._http.stream("GET", archive.url) as answer:
                if answer.is_error:
                    answer.read()
                    raise _error(answer)
                with Path(file).open("wb") as output:
                    for part in answer.iter_bytes():
                        output.write(part)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return archive

    def stats(self) -> Stats:
        """Return the contents of the library, its indices, and the scopes of this client."""
        return self._read(Stats, "GET", "/v1/stats")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, model: type[_Model], method: str, path: str, **how: Any) -> _Model:
        answer = self._request(method, path, **how)
        try:
            return model.model_validate_json(answer.content)
        except ValueError as error:
            raise ServiceError(
                f"{self._server} is not an mmsearch service, or has another version: {error}.",
                answer.status_code,
            ) from error

    def _request(self, method: str, path: str, **how: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        for attempt in range(self._retries + 1):
            for _, (_, file) in how.get("files", ()):
                file.seek(0)
            try:
                answer = self._http.request(method, path, **how)
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            if not answer.is_error:
                return answer
            wait_s = _retry_after(answer, pause_s)
            is_last = attempt == self._retries or time.monotonic() + wait_s > deadline
            if answer.status_code not in _RETRYABLE or is_last:
                raise _error(answer)
            time.sleep(wait_s)
            pause_s *= 2
        raise AssertionError("unreachable")

    def _unreachable(self, error: httpx.TransportError) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"{self._server} does not answer: {reason}.")


class AsyncClient:
    """Client of one service; thread-safe.

    Args:
        server: URL of the service, or its host and port.
        api_key: Secret of an API key. (default: `MMSEARCH_API_KEY`)
        timeout: Timeout of one HTTP request, in seconds.
        retries: Maximum number of retries of a request that was refused temporarily (429, 503).
        patience_s: Maximum time in seconds to wait for retries of one request.

    Every method raises NotFoundError, UsageError for invalid arguments, AccessDeniedError,
    BusyError, UnreachableError, and ServiceError for everything else.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        timeout: httpx.Timeout | float = _TIMEOUT,
        retries: int = 3,
        patience_s: float = 30.0,
    ) -> None:
        key = api_key or os.environ.get("MMSEARCH_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._server = server if "://" in server else f"http://{server}"
        self._retries = retries
        self._patience_s = patience_s
        try:
            self._http = httpx.AsyncClient(base_url=self._server, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(f"{server!r} is not the address of a service: {error}.") from error

    async def search(
        self,
        text: str | None = None,
        *,
        image: ImageLike | None = None,
        audio: AudioLike | None = None,
        **options: Unpack[SearchOptions],
    ) -> Answer:
        """Search by a text, an image, a sound or several; options as fields of `SearchRequest`."""
        given = {
            "text": text,
            "image": None if image is None else in_base64(image),
            "audio": None if audio is None else in_base64(audio),
        }
        return await self.ask(search_request({**given, **options}))

    async def ask(self, request: SearchRequest) -> Answer:
        """Send a search request."""
        body = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return await self._read(Answer, "POST", "/v1/search", json=body)

    async def search_many(self, requests: Sequence[SearchRequest]) -> list[Answer | MMSearchError]:
        """Send several searches in one request; one that fails has an error in its place."""
        body = {
            "queries": [
                one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
                for one in requests
            ]
        }
        batch = await self._read(BatchAnswer, "POST", "/v1/search/batch", json=body)
        found: list[Answer | MMSearchError] = []
        for entry in batch.answers:
            if entry.problem:
                found.append(_error_of(entry.problem.status, entry.problem.detail))
            elif entry.answer:
                found.append(entry.answer)
        return found

    async def facets(
        self,
        text: str | None = None,
        *,
        image: ImageLike | None = None,
        audio: AudioLike | None = None,
        limit: int = DEFAULT_VALUES,
        **options: Unpack[SearchOptions],
    ) -> Facets:
        """Count the hits of a search; without text, files and parts, what passes its filter.

        limit: Maximum number of values of each facet.
        """
        asked = {
            "text": text,
            "image": None if image is None else in_base64(image),
            "audio": None if audio is None else in_base64(audio),
            **options,
        }
        return await self.ask_facets(search_request(asked), limit)

    async def ask_facets(self, request: SearchRequest, limit: int = DEFAULT_VALUES) -> Facets:
        """Count the hits of a search request."""
        body = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return await self._read(Facets, "POST", "/v1/facets", json=body, params={"limit": limit})

    async def facet_values(
        self,
        facet: str,
        text: str | None = None,
        *,
        below: Sequence[str] = (),
        contains: str = "",
        limit: int = DEFAULT_VALUES,
        **options: Unpack[SearchOptions],
    ) -> FacetValues:
        """List the values of one facet among the hits of a search, or what passes its filter.

        Args:
            facet: `years`, `months`, `folders`, `places`, `cameras`, `kinds` or `columns.NAME`.
            text: As of `facets`.
            below: The year of months, the path of a folder, or a country and a region.
            contains: Part of the names of the values.
            limit: Maximum number of values.
            options: The fields of `SearchRequest`.
        """
        request = search_request({"text": text, **options})
        body = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        asked = {"facet": facet, "below": list(below), "contains": contains, "limit": limit}
        return await self._read(
            FacetValues, "POST", "/v1/facets/values", json=body, params=_given(asked)
        )

    async def items(
        self,
        *,
        where: Filter | None = None,
        modality: Literal["image", "text", "audio"] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        offset: int = 0,
        order: Literal["oldest", "newest", "date", "date-asc", "name", "collection"] = "oldest",
    ) -> ItemList:
        """List items in the order in which they were added, by date or by name.

        Args:
            where: Filter of the items.
            modality: Only items of this modality.
            limit: Maximum number of items, 1 to 1000.
            cursor: `next_cursor` of the previous page.
            offset: Number of items to skip, after the cursor.
            order: `oldest` or `newest` addition first; `date` (newest first) or `date-asc` of the
                photos; `name`: by path; `collection`: as they were added to the collection of the
                filter.
        """
        condition = where.model_dump_json(by_alias=True, exclude_none=True) if where else None
        asked = {
            "limit": limit,
            "cursor": cursor,
            "offset": offset or None,
            "modality": modality,
            "where": condition,
            "order": order,
        }
        return await self._read(ItemList, "GET", "/v1/items", params=_given(asked))

    async def item(self, item_id: int) -> Item:
        """Describe an item."""
        return await self._read(Item, "GET", f"/v1/items/{item_id}")

    async def texts(self, item_id: int) -> ItemTexts:
        """List what models found in the picture or the speech of an item."""
        return await self._read(ItemTexts, "GET", f"/v1/items/{item_id}/texts")

    async def transcript(self, item_id: int, form: Literal["vtt", "srt", "txt"] = "vtt") -> str:
        """Download what is said in the file of an item, as WebVTT, SubRip or plain text."""
        answer = await self._request("GET", f"/v1/items/{item_id}/transcript.{form}")
        return answer.content.decode("utf-8")

    async def thumbnail(
        self, item_id: int, *, size: int = 320, form: Literal["webp", "jpeg"] = "webp"
    ) -> bytes:
        """Download a thumbnail, its longer side at most `size` pixels.

        size: 160, 320, 640, 1280 or 2560.
        """
        asked = {"size": size, "format": form}
        return (await self._request("GET", f"/v1/items/{item_id}/thumbnail", params=asked)).content

    async def file(self, item_id: int) -> bytes:
        """Download the file of an item."""
        return (await self._request("GET", f"/v1/items/{item_id}/file")).content

    async def link(self, item_id: int) -> FileLink:
        """Make an address of the file of an item that needs no API key, for players and links."""
        return await self._read(FileLink, "POST", f"/v1/items/{item_id}/link")

    async def neighbours(self, item_id: int, *, before: int = 1, after: int = 1) -> Neighbours:
        """List the chunks, pages or frames before and after an item in its file."""
        asked = {"before": before, "after": after}
        return await self._read(Neighbours, "GET", f"/v1/items/{item_id}/neighbours", params=asked)

    async def map_points(
        self, box: GeoBox | None = None, *, cells: int = 40, where: Filter | None = None
    ) -> MapPoints:
        """Count the files with coordinates in a box, by cells of a grid over it.

        box: None for the whole world. cells: number of cells along each side of the box.
        """
        condition = where.model_dump_json(by_alias=True, exclude_none=True) if where else None
        asked = {**(box.model_dump() if box else {}), "cells": cells, "where": condition}
        return await self._read(MapPoints, "GET", "/v1/map", params=_given(asked))

    async def similar(
        self, item_id: int, *, k: int = 10, cursor: str | None = None, rerank: str = "auto"
    ) -> Answer:
        """Find items similar to an item."""
        asked = _given({"k": k, "cursor": cursor, "rerank": rerank})
        return await self._read(Answer, "GET", f"/v1/items/{item_id}/similar", params=asked)

    async def embed(
        self, texts: Sequence[str] = (), images: Sequence[ImageLike] = ()
    ) -> Embeddings:
        """Embed texts and images as unit vectors."""
        body = {"texts": list(texts), "images": [in_base64(image) for image in images]}
        return await self._read(Embeddings, "POST", "/v1/embed", json=body)

    async def describe(
        self,
        image: ImageLike | None = None,
        *,
        item_id: int | None = None,
        prompt: str | None = None,
        max_tokens: int = 64,
    ) -> GeneratedText:
        """Describe an image, or the picture of an item, where the service has a model for it."""
        asked = {"item": item_id, "prompt": prompt, "max_tokens": max_tokens}
        body = _given({**asked, "image": None if image is None else in_base64(image)})
        return await self._read(GeneratedText, "POST", "/v1/describe", json=body)

    async def ask_about(
        self,
        question: str,
        image: ImageLike | None = None,
        *,
        item_id: int | None = None,
        max_tokens: int = 64,
    ) -> GeneratedText:
        """Ask a question about an image or an item, where the service has a model for it."""
        asked = {"item": item_id, "question": question, "max_tokens": max_tokens}
        body = _given({**asked, "image": None if image is None else in_base64(image)})
        return await self._read(GeneratedText, "POST", "/v1/ask", json=body)

    async def explain(self, text: str, item_id: int) -> Explanation:
        """Explain why a text and an item match: what each word adds, and where it looked."""
        asked = {"text": text, "item": item_id}
        return await self._read(Explanation, "GET", "/v1/explain", params=asked)

    async def upload(
        self, *paths: str | os.PathLike[str], wait: bool = True, idempotency_key: str | None = None
    ) -> Job:
        """Upload files to the library: all of them, or none if one is refused.

        A call that is repeated stores no file twice.

        wait: Wait up to a minute for the job that indexes them; `state` tells if it has finished.
        idempotency_key: Any text; the answer to a repeated call with it is the first job.
        """
        with ExitStack() as stack:
            files = [
                ("files", (Path(path).name, stack.enter_context(Path(path).open("rb"))))
                for path in paths
            ]
            return await self._read(
                Job,
                "POST",
                "/v1/items",
                files=files,
                params={"wait": wait},
                headers={"Idempotency-Key": idempotency_key} if idempotency_key else None,
                timeout=_WAIT_TIMEOUT if wait else self._http.timeout,
            )

    async def delete(self, item_id: int) -> Removal:
        """Hide the file of an item from searches; delete it if it was uploaded."""
        return await self._read(Removal, "DELETE", f"/v1/items/{item_id}")

    async def index(
        self,
        paths: Sequence[str] | None = None,
        *,
        retry_failed: bool = False,
        kinds: Sequence[str] | None = None,
        hidden: bool | None = None,
        ocr: bool | None = None,
    ) -> Job:
        """Update the library from all its sources, or from some paths in them.

        Args:
            paths: Absolute paths in sources, or new ones that the service allows.
            retry_failed: Also read files again that failed and have not changed.
            kinds: Kinds of files that the sources named by `paths` are to have.
            hidden: Whether these sources are to have hidden files and folders.
            ocr: Whether to find the text in pictures of the whole library from now on.
        """
        body = {
            "paths": list(paths) if paths else None,
            "retry_failed": retry_failed,
            "kinds": list(kinds) if kinds else None,
            "hidden": hidden,
            **({} if ocr is None else {"ocr": ocr}),
        }
        return await self._read(Job, "POST", "/v1/index", json=body)

    async def folders(self, path: str | None = None) -> FolderList:
        """List folders that may be added: those of `--index-below`, or those in one of them."""
        asked = _given({"path": path})
        return await self._read(FolderList, "GET", "/v1/folders", params=asked)

    async def create_library(self, language: str | None = None) -> Creation:
        """Create the library that the service waits for; language: that of the queries."""
        return await self._read(Creation, "POST", "/v1/library", json={"language": language})

    async def changes(self, after: int = 0) -> Changes:
        """Tell whether the library has changed, and how much was added after an item."""
        return await self._read(Changes, "GET", "/v1/changes", params={"after": after})

    async def storage(self) -> Storage:
        """Measure what the library takes on disk, and describe its spaces."""
        return await self._read(Storage, "GET", "/v1/storage")

    async def jobs(self) -> JobList:
        """List jobs, newest first."""
        return await self._read(JobList, "GET", "/v1/jobs")

    async def job(self, job_id: str) -> Job:
        """Return the current state of a job."""
        return await self._read(Job, "GET", f"/v1/jobs/{job_id}")

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; a running one ends after its current batch."""
        return await self._read(Job, "DELETE", f"/v1/jobs/{job_id}")

    async def follow(self, job_id: str) -> AsyncIterator[Job]:
        """Yield a job at each change, until it has finished."""
        headers = {"Accept": "text/event-stream"}
        while True:
            try:
                async with self._http.stream(
                    "GET", f"/v1/jobs/{job_id}", headers=headers
                ) as answer:
                    if answer.is_error:
                        await answer.aread()
                        raise _error(answer)
                    async for line in answer.aiter_lines():
                        name, _, value = line.partition(": ")
                        if name == "id":
                            headers["Last-Event-ID"] = value
                        elif name == "data":
                            job = Job.model_validate_json(value)
                            yield job
                            if job.state in FINAL_STATES:
                                return
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            await asyncio.sleep(_FIRST_PAUSE_S)

    async def notes(self, limit: int = 1000, *, reason: str | None = None) -> NoteList:
        """List the files that could not be read, and what could not be read of the others.

        reason: Only the files that failed for this reason.
        """
        asked = _given({"limit": limit, "reason": reason})
        return await self._read(NoteList, "GET", "/v1/notes", params=asked)

    async def collections(self) -> CollectionList:
        """List the collections by name."""
        return await self._read(CollectionList, "GET", "/v1/collections")

    async def create_collection(self, name: str, items: Sequence[int] = ()) -> Collection:
        """Create a collection, of some items."""
        body = {"name": name, "items": list(items)}
        return await self._read(Collection, "POST", "/v1/collections", json=body)

    async def rename_collection(self, collection_id: int, name: str) -> Collection:
        """Give a collection another name."""
        path = f"/v1/collections/{collection_id}"
        return await self._read(Collection, "PATCH", path, json={"name": name})

    async def delete_collection(self, collection_id: int) -> None:
        """Delete a collection; its items stay in the library."""
        await self._request("DELETE", f"/v1/collections/{collection_id}")

    async def add_to_collection(self, collection_id: int, items: Sequence[int]) -> int:
        """Add items at the end of a collection; returns how many were not in it."""
        path = f"/v1/collections/{collection_id}/items"
        return (await self._read(Changed, "POST", path, json={"items": list(items)})).changed

    async def remove_from_collection(self, collection_id: int, items: Sequence[int]) -> int:
        """Take items out of a collection, at most 1000; returns how many were in it."""
        path = f"/v1/collections/{collection_id}/items"
        return (await self._read(Changed, "DELETE", path, params={"item": list(items)})).changed

    async def hide(self, items: Sequence[int]) -> int:
        """Hide items from searches and lists; returns how many were not hidden."""
        return (
            await self._read(Changed, "POST", "/v1/hidden", json={"items": list(items)})
        ).changed

    async def unhide(self, items: Sequence[int]) -> int:
        """Show hidden items again, at most 1000; returns how many were hidden."""
        return (
            await self._read(Changed, "DELETE", "/v1/hidden", params={"item": list(items)})
        ).changed

    async def saved_searches(self) -> SavedSearchList:
        """List the saved searches by name."""
        return await self._read(SavedSearchList, "GET", "/v1/searches")

    async def save_search(self, name: str, request: SearchRequest) -> SavedSearch:
        """Save a search under a name, in place of one that has it."""
        asked = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        body = {"name": name, "request": asked}
        return await self._read(SavedSearch, "POST", "/v1/searches", json=body)

    async def delete_saved_search(self, search_id: int) -> None:
        """Delete a saved search."""
        await self._request("DELETE", f"/v1/searches/{search_id}")

    async def download(
        self,
        file: str | os.PathLike[str],
        *,
        items: Sequence[int] | None = None,
        collection: str | None = None,
    ) -> Archive:
        """Download the files of items, or of a collection, as a ZIP archive.

        file: where to write it. Returns what is in it.
        """
        body = _given({"items": None if items is None else list(items), "collection": collection})
        archive = await self._read(Archive, "POST", "/v1/archives", json=body)
        try:
            async with self._http.stream("GET", archive.url) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _error(answer)
                with Path(file).open("wb") as output:
                    async for part in answer.aiter_bytes():
                        output.write(part)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return archive

    async def stats(self) -> Stats:
        """Return the contents of the library, its indices, and the scopes of this client."""
        return await self._read(Stats, "GET", "/v1/stats")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _read(self, model: type[_Model], method: str, path: str, **how: Any) -> _Model:
        answer = await self._request(method, path, **how)
        try:
            return model.model_validate_json(answer.content)
        except ValueError as error:
            raise ServiceError(
                f"{self._server} is not an mmsearch service, or has another version: {error}.",
                answer.status_code,
            ) from error

    async def _request(self, method: str, path: str, **how: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        for attempt in range(self._retries + 1):
            for _, (_, file) in how.get("files", ()):
                file.seek(0)
            try:
                answer = await self._http.request(method, path, **how)
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            if not answer.is_error:
                return answer
            wait_s = _retry_after(answer, pause_s)
            is_last = attempt == self._retries or time.monotonic() + wait_s > deadline
            if answer.status_code not in _RETRYABLE or is_last:
                raise _error(answer)
            await asyncio.sleep(wait_s)
            pause_s *= 2
        raise AssertionError("unreachable")

    def _unreachable(self, error: httpx.TransportError) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"{self._server} does not answer: {reason}.")


def in_base64(image: ImageLike) -> str:
    """Encode an image file, or a PIL image as PNG, in base64."""
    if isinstance(image, bytes):
        content = image
    elif isinstance(image, str | os.PathLike):
        content = Path(image).read_bytes()
    elif hasattr(image, "save"):
        stream = io.BytesIO()
        image.save(stream, "PNG")
        content = stream.getvalue()
    else:
        raise TypeError(
            f"An image is a path, the bytes of a file or a PIL image, not {type(image).__name__}."
        )
    return base64.b64encode(content).decode()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _error(answer: httpx.Response) -> MMSearchError:
    """Map an error answer to an exception."""
    try:
        message = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        message = f"{answer.url} answered {answer.status_code} {answer.reason_phrase}."
    return _error_of(answer.status_code, message)


def _error_of(status: int, message: str) -> MMSearchError:
    if status == 404:
        return NotFoundError(message)
    if status in {401, 403}:
        return AccessDeniedError(message, status)
    if status in {429, 503, 504}:
        return BusyError(message, status)
    if status in {400, 409, 413, 415, 422}:
        return UsageError(message)
    return ServiceError(message, status)


def _retry_after(answer: httpx.Response, default_s: float) -> float:
    """Parse `Retry-After`, a number of seconds or a date, into seconds."""
    value = answer.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return default_s
