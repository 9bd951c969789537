"""Jobs, uploads and removals over the wire."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.text import valid_text

if TYPE_CHECKING:
    from api.http.jobs import Job


class JobKind(StrEnum):
    """What asked for a job."""

    INDEX = "index"
    UPLOAD = "upload"


class JobState(StrEnum):
    """Where a job is; the last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


AbsolutePath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class IndexRequest(BaseModel):
    """What to bring up to date."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"paths": None}]})

    paths: Annotated[
        list[AbsolutePath] | None,
        Field(
            min_length=1,
            max_length=100,
            description="Absolute paths in the library's sources; null: all sources.",
        ),
    ] = None


class JobProgress(BaseModel):
    """How far a job is, in files that have to be read, or in steps of building an index."""

    stage: Annotated[str, Field(description="`files`, or what is done to build an index.")]
    done: int
    total: Annotated[int | None, Field(description="null while folders are looked through.")]
    failed: Annotated[int, Field(description="Files that could not be read.")]


class UploadedFile(BaseModel):
    """A file that was sent, and what became of it."""

    path: Annotated[str, Field(description="Where it is kept.")]
    item_ids: Annotated[list[int], Field(description="Its picture, frames, pages or passages.")]
    failure: Annotated[
        str | None, Field(description="Why it could not be indexed; it was deleted again.")
    ] = None


class JobResult(BaseModel):
    """What a job did, in files but for `embedded`; a cancelled one, too."""

    found: int
    added: int
    changed: int
    unchanged: int
    moved: int
    duplicates: int
    removed: int
    failed: int
    embedded: Annotated[int, Field(description="Pictures and passages that were embedded.")]
    seconds: float
    interrupted: bool
    indices: Annotated[list[str], Field(description="Search indices that were built.")] = []
    problems: Annotated[list[str], Field(description="What failed without harm.")] = []
    files: Annotated[list[UploadedFile] | None, Field(description="Of an upload.")] = None


class JobSchema(BaseModel):
    """A piece of work beside the answering. `succeeded`, `failed`, `cancelled` are final."""

    id: str
    kind: JobKind
    state: JobState
    cancelling: Annotated[bool, Field(description="It ends after the batch in flight.")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: JobProgress
    result: JobResult | None
    error: Annotated[str | None, Field(description="Why it failed.")]

    @classmethod
    def of(cls, job: "Job") -> Self:
        """Describe a job as it is now."""
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            cancelling=job.is_cancelling and not job.is_finished,
            created_at=_time(job.created_at),
            started_at=None if job.started_at is None else _time(job.started_at),
            finished_at=None if job.finished_at is None else _time(job.finished_at),
            progress=JobProgress(
                stage=job.step.stage,
                done=job.step.done,
                total=job.step.total,
                failed=job.step.failed,
            ),
            result=JobResult.model_validate(job.result) if job.result else None,
            error=None if job.error is None else valid_text(job.error),
        )


class JobList(BaseModel):
    """Jobs of this service since its start, the newest first."""

    jobs: list[JobSchema]


class Removal(BaseModel):
    """An item whose file is hidden from every search, with all that was found in it."""

    item_id: int
    path: str
    file_deleted: Annotated[
        bool, Field(description="Only files that were uploaded are deleted from the disk.")
    ]
    comes_back: Annotated[
        bool,
        Field(description="The file is still in a source: the next indexing finds it again."),
    ]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
