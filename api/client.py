"""A client of the service, on httpx: the same models as the server's, errors as exceptions."""

import base64
import email.utils
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, TypeVar, Unpack

import httpx
from PIL import Image
from pydantic import BaseModel, ValidationError

from api.http.schemas import ItemList, ItemSchema, PartSchema, SearchRequest, ServedAnswer
from api.http.schemas.embeddings import Embeddings
from api.http.schemas.jobs import FINAL_STATES, JobList, JobSchema, Removal
from api.http.schemas.stats import Stats
from retrieval.errors import MMSearchError, NotFoundError, UsageError, first_problem
from retrieval.filters import Filter

ImageLike = str | os.PathLike[str] | bytes | Image.Image
"""An image file by its path, its content, or an image in memory."""

_Model = TypeVar("_Model", bound=BaseModel)

_FOR_THE_TIME_BEING = frozenset({429, 503})
_FIRST_PAUSE_S = 0.5
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_WAIT_TIMEOUT = httpx.Timeout(90.0, connect=5.0)
"""The service itself answers after a minute."""


class ServiceError(MMSearchError):
    """What a service answered instead. status: of HTTP; None: there was no answer at all."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AccessDeniedError(ServiceError):
    """The API key is missing, unknown, or lacks the scope."""


class BusyError(ServiceError):
    """The service could not answer now, also after waiting as it asked."""


class UnreachableError(ServiceError):
    """No answer came: wrong address, no service there, no network, or too slow."""


def search_request(fields: dict[str, Any]) -> SearchRequest:
    """Make a search request of its fields; raises UsageError for what no service accepts."""
    try:
        return SearchRequest.model_validate(fields)
    except ValidationError as error:
        raise UsageError(first_problem(error)) from None


class SearchOptions(TypedDict, total=False):
    """As the fields of `SearchRequest`."""

    item: int | None
    parts: list[PartSchema]
    k: int
    cursor: str | None
    modality: Literal["image", "text"]
    where: Filter | None
    mode: Literal["auto", "vector", "text", "hybrid"]
    min_relevance: float
    group_by_file: bool
    diversity: float
    rerank: Literal["auto", "none"]
    rerank_depth: int | None
    rerank_budget_ms: float


class Client:
    """Asks one service; may be used from several threads.

    api_key: the secret of a key; None: `MMSEARCH_API_KEY`, if it is set. retries: how often a
    request is sent again that was refused for the time being (429, 503). patience_s: how long a
    request may wait for that in all.

    Every method raises NotFoundError, UsageError for what the service cannot accept,
    AccessDeniedError, BusyError, UnreachableError, and ServiceError for all else.
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
        **options: Unpack[SearchOptions],
    ) -> ServedAnswer:
        """Find what is near to a text, an image, or both; more is said by the options."""
        encoded = None if image is None else in_base64(image)
        return self.ask(search_request({"text": text, "image": encoded, **options}))

    def ask(self, request: SearchRequest) -> ServedAnswer:
        """Answer a search request."""
        body = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return self._read(ServedAnswer, "POST", "/v1/search", json=body)

    def items(
        self,
        *,
        where: Filter | None = None,
        modality: Literal["image", "text"] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        order: Literal["oldest", "newest"] = "oldest",
    ) -> ItemList:
        """List items in the order in which they were added."""
        condition = where.model_dump_json(by_alias=True, exclude_none=True) if where else None
        asked = {
            "limit": limit,
            "cursor": cursor,
            "modality": modality,
            "where": condition,
            "order": order,
        }
        return self._read(ItemList, "GET", "/v1/items", params=_given(asked))

    def item(self, item_id: int) -> ItemSchema:
        """Describe an item."""
        return self._read(ItemSchema, "GET", f"/v1/items/{item_id}")

    def thumbnail(
        self, item_id: int, *, size: int = 320, form: Literal["webp", "jpeg"] = "webp"
    ) -> bytes:
        """An item's picture, its longer side at most `size` pixels (160, 320, 640 or 1280)."""
        asked = {"size": size, "format": form}
        return self._request("GET", f"/v1/items/{item_id}/thumbnail", params=asked).content

    def file(self, item_id: int) -> bytes:
        """The file of an item."""
        return self._request("GET", f"/v1/items/{item_id}/file").content

    def similar(
        self, item_id: int, *, k: int = 10, cursor: str | None = None, rerank: str = "auto"
    ) -> ServedAnswer:
        """Find what is like an item."""
        asked = _given({"k": k, "cursor": cursor, "rerank": rerank})
        return self._read(ServedAnswer, "GET", f"/v1/items/{item_id}/similar", params=asked)

    def embed(self, texts: Sequence[str] = (), images: Sequence[ImageLike] = ()) -> Embeddings:
        """Unit vectors of texts and images."""
        body = {"texts": list(texts), "images": [in_base64(image) for image in images]}
        return self._read(Embeddings, "POST", "/v1/embed", json=body)

    def upload(self, *paths: str | os.PathLike[str], wait: bool = True) -> JobSchema:
        """Add files to the library: all of them, or none if one is refused.

        wait: for the job that indexes them, up to a minute; its state says whether it has finished.
        """
        with ExitStack() as stack:
            files = [
                ("files", (Path(path).name, stack.enter_context(Path(path).open("rb"))))
                for path in paths
            ]
            return self._read(
                JobSchema,
                "POST",
                "/v1/items",
                files=files,
                params={"wait": wait},
                timeout=_WAIT_TIMEOUT if wait else self._http.timeout,
            )

    def delete(self, item_id: int) -> Removal:
        """Hide the file of an item from searches; one that was uploaded is deleted."""
        return self._read(Removal, "DELETE", f"/v1/items/{item_id}")

    def index(self, paths: Sequence[str] | None = None) -> JobSchema:
        """Bring the library up to date with its sources, or a part of them."""
        body = {"paths": list(paths) if paths else None}
        return self._read(JobSchema, "POST", "/v1/index", json=body)

    def jobs(self) -> JobList:
        """List jobs, the newest first."""
        return self._read(JobList, "GET", "/v1/jobs")

    def job(self, job_id: str) -> JobSchema:
        """Tell how far a job is."""
        return self._read(JobSchema, "GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> JobSchema:
        """Cancel a job: one that runs after its batch in flight."""
        return self._read(JobSchema, "DELETE", f"/v1/jobs/{job_id}")

    def follow(self, job_id: str) -> Iterator[JobSchema]:
        """Give a job at each of its changes, until it has finished."""
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
                            job = JobSchema.model_validate_json(value)
                            yield job
                            if job.state in FINAL_STATES:
                                return
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            time.sleep(_FIRST_PAUSE_S)

    def stats(self) -> Stats:
        """What the library holds, how it is searched, and what this client may do."""
        return self._read(Stats, "GET", "/v1/stats")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, model: type[_Model], method: str, path: str, **how: Any) -> _Model:
        answer = self._request(method, path, **how)
        try:
            return model.model_validate_json(answer.content)
        except ValueError as error:
            raise ServiceError(
                f"{self._server} is no mmsearch service, or one of another version: {error}.",
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
            if answer.status_code not in _FOR_THE_TIME_BEING or is_last:
                raise _error(answer)
            time.sleep(wait_s)
            pause_s *= 2
        raise AssertionError("unreachable")

    def _unreachable(self, error: httpx.TransportError) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"{self._server} does not answer: {reason}.")


def in_base64(image: ImageLike) -> str:
    """Spell an image file, or an image in memory as PNG, in base64."""
    if isinstance(image, Image.Image):
        stream = io.BytesIO()
        image.save(stream, "PNG")
        content = stream.getvalue()
    else:
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
    return base64.b64encode(content).decode()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _error(answer: httpx.Response) -> MMSearchError:
    """The exception that stands for an answer."""
    try:
        message = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        message = f"{answer.url} answered {answer.status_code} {answer.reason_phrase}."
    status = answer.status_code
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
    """Seconds that a service asks to wait, told as a number or a date."""
    told = answer.headers.get("retry-after", "")
    if told.isascii() and told.isdigit():
        return float(told)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return default_s
