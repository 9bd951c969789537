"""Schemas of jobs, uploads and removals."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from retrieval.files import valid_text
from retrieval.media import MediaKind
from retrieval.recognition.base import Task

if TYPE_CHECKING:
    from api.http.jobs import Job


class JobKind(StrEnum):
    """Kind of a job; `texts` lets models look for texts in what is indexed."""

    INDEX = "index"
    UPLOAD = "upload"
    TEXTS = "texts"


class JobState(StrEnum):
    """State of a job; the last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


AbsolutePath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class IndexRequest(BaseModel):
    """Paths to index, and how."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"paths": None}]})

    paths: Annotated[
        list[AbsolutePath] | None,
        Field(
            min_length=1,
            max_length=100,
            description="Absolute paths in the library's sources; null: all sources.",
        ),
    ] = None
    retry_failed: Annotated[
        bool, Field(description="Also read files again that failed and have not changed.")
    ] = False
    kinds: Annotated[
        list[MediaKind] | None,
        Field(
            min_length=1,
            description="Kinds of files to index, remembered by the sources that are named.",
        ),
    ] = None
    hidden: Annotated[
        bool | None,
        Field(
            description="Whether to index hidden files and folders, remembered by the sources "
            "that are named."
        ),
    ] = None

    @property
    def has_options(self) -> bool:
        """Return whether it changes options of sources."""
        return self.kinds is not None or self.hidden is not None


class JobProgress(BaseModel):
    """Progress of a job, in files to read, pictures to look at, or steps of building an index."""

    stage: Annotated[
        str,
        Field(
            description="`files`; of `texts` jobs the task: `ocr`, `speech` or `caption`; or a "
            "stage of building an index."
        ),
    ]
    done: int
    total: Annotated[int | None, Field(description="null while directories are scanned.")]
    failed: Annotated[int, Field(description="Files that could not be read.")]


class UploadedFile(BaseModel):
    """An uploaded file and its items."""

    path: Annotated[str, Field(description="Path where it is stored.")]
    item_ids: Annotated[list[int], Field(description="Its image, frames, pages or chunks.")]
    failure: Annotated[
        str | None, Field(description="Reason why it could not be indexed; it was deleted again.")
    ] = None


class TaskResult(BaseModel):
    """What a model found in a `texts` job; in pictures, for speech in files."""

    task: Task
    looked_at: int
    with_text: int
    failed: int


class JobResult(BaseModel):
    """Counts of a job, also of a cancelled one; in files, except `embedded`."""

    found: int
    added: int
    changed: int
    unchanged: int
    moved: int
    relocated: Annotated[
        int, Field(description="Files re-rooted with a source that was moved as a whole.")
    ] = 0
    duplicates: int
    removed: int
    failed: int
    refreshed: Annotated[
        int, Field(description="Unchanged, but their metadata was read again.")
    ] = 0
    noted: Annotated[
        int, Field(description="Indexed files of which something could not be read.")
    ] = 0
    embedded: Annotated[int, Field(description="Number of embedded images and chunks.")]
    seconds: float
    interrupted: bool
    notes: Annotated[
        list[str], Field(description="Sources that were moved or are missing, and what to do.")
    ] = []
    endings: Annotated[
        dict[str, int], Field(description="Number of files of other kinds passed over, by ending.")
    ] = {}
    system_folders: Annotated[
        dict[str, int], Field(description="Number of system folders passed over, by name.")
    ] = {}
    indices: Annotated[list[str], Field(description="Indices that were built.")] = []
    problems: Annotated[list[str], Field(description="Problems that did not fail the job.")] = []
    files: Annotated[list[UploadedFile] | None, Field(description="Files of an upload.")] = None
    texts: Annotated[list[TaskResult], Field(description="Of a `texts` job, by task.")] = []


class JobSchema(BaseModel):
    """A background job. `succeeded`, `failed`, `cancelled` are final."""

    id: str
    kind: JobKind
    paths: Annotated[list[str], Field(description="What is indexed; empty: all sources.")] = []
    retry_failed: Annotated[
        bool, Field(description="Whether files that failed are read again.")
    ] = False
    state: JobState
    cancelling: Annotated[bool, Field(description="Whether it ends after the current batch.")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: JobProgress
    result: JobResult | None
    error: Annotated[str | None, Field(description="Reason of a failure.")]

    @classmethod
    def of(cls, job: "Job") -> Self:
        """Build from the current state of a job."""
        return cls(
            id=job.id,
            kind=job.kind,
            paths=[valid_text(path) for path in (*job.request.sources, *job.request.within)],
            retry_failed=job.request.retry_failed,
            state=job.state,
            cancelling=job.is_cancelling and not job.is_finished,
            created_at=_time(job.created_at),
            started_at=None if job.started_at is None else _time(job.started_at),
            finished_at=None if job.finished_at is None else _time(job.finished_at),
            progress=JobProgress(**vars(job.step)),
            result=JobResult.model_validate(job.result) if job.result else None,
            error=None if job.error is None else valid_text(job.error),
        )


class JobList(BaseModel):
    """Jobs of this service since its start, newest first."""

    jobs: list[JobSchema]


class Removal(BaseModel):
    """An item whose file is hidden from every search, with all its other items."""

    item_id: int
    path: str
    file_deleted: Annotated[
        bool, Field(description="Whether the file was deleted: only uploaded files are.")
    ]
    comes_back: Annotated[
        bool,
        Field(description="The file is still in a source: the next indexing finds it again."),
    ]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
