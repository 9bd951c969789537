"""Jobs as JSON."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from api.http.indexing_process import IndexingRequest, Step
from api.http.jobs import Job
from api.http.schemas.jobs import (
    FINAL_STATES,
    IndexRequest,
    JobKind,
    JobResult,
    JobSchema,
    JobState,
)

COUNTS = {name: 0 for name, field in JobResult.model_fields.items() if field.annotation is int}


def job(**facts) -> Job:
    job = Job("an-id", JobKind.INDEX, IndexingRequest(), created_at=1_700_000_000.5)
    for name, value in facts.items():
        setattr(job, name, value)
    return job


def test_a_waiting_job_has_no_times_and_no_result_yet():
    schema = JobSchema.of(job())
    assert (schema.state, schema.cancelling) == ("waiting", False)
    assert schema.created_at == datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)
    assert schema.started_at is schema.finished_at is schema.result is schema.error is None
    assert schema.progress.model_dump() == {"stage": "files", "done": 0, "total": None, "failed": 0}


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_is_cancelling_until_it_has_ended(state):
    schema = JobSchema.of(job(state=state, is_cancelling=True))
    assert schema.cancelling is (state not in FINAL_STATES)


def test_a_finished_job_is_read_back_from_its_json():
    result = COUNTS | {"added": 2, "seconds": 1.5, "interrupted": False}
    files = [{"path": "/a.jpg", "item_ids": [1, 2], "failure": None}]
    done = job(
        state=JobState.SUCCEEDED,
        started_at=1_700_000_001.0,
        finished_at=1_700_000_002.0,
        step=Step("files", 2, 2, 0),
        result=result | {"files": files},
    )
    schema = JobSchema.of(done)
    assert schema.result.added == 2
    assert schema.result.files[0].item_ids == [1, 2]
    assert (schema.result.indices, schema.result.problems) == ([], [])
    assert JobSchema.model_validate_json(schema.model_dump_json()) == schema


def test_a_reason_with_a_name_that_is_not_text_can_be_sent():
    error = "caf\udce9.jpg cannot be read"
    schema = JobSchema.of(job(state=JobState.FAILED, error=error))
    assert schema.error == "caf\\xe9.jpg cannot be read"
    assert b"caf" in schema.model_dump_json().encode()


@pytest.mark.parametrize("paths", [[], ["/x"] * 101, [""], ["/x\0"], ["/" + "x" * 4096], "/x", [1]])
def test_paths_that_cannot_be_indexed(paths):
    with pytest.raises(ValidationError):
        IndexRequest(paths=paths)


def test_no_paths_mean_all_sources():
    assert IndexRequest().paths is None
    assert IndexRequest.model_validate_json('{"paths": null}').paths is None
    with pytest.raises(ValidationError):
        IndexRequest.model_validate_json('{"path": "/x"}')
