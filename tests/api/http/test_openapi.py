"""The description of the service holds: whatever is sent, what comes back is as it says."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from PIL import Image

from api.http.app import create_app
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.library import create_library

READER = "a-secret-of-a-reader"
KEYS = f"reader:read:{READER} writer:read,write:a-secret-of-a-writer"


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("described")
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (200, 100), colour).save(folder / f"{colour}.png")
    (folder / "note.txt").write_text("Two dogs fight over a stick in the snow.")
    library = create_library(tmp_path_factory.mktemp("library") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@contextmanager
def served(library, keys: str) -> Iterator[str]:
    """Run the service on a free port, and tell its address."""
    settings = ServiceSettings(rate_limit="1000000/second", api_keys=keys)
    app = create_app(library.path, settings, device="cpu")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "headers"),
    [("", []), (KEYS, ["--header", f"Authorization: Bearer {READER}"])],
    ids=["anyone", "a key that may only read"],
)
def test_answers_are_as_described(library, tmp_path, keys, headers):
    """No server error, nothing undocumented, what is not as described is refused."""
    with served(library, keys) as address:
        run = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                f"{address}/openapi.json",
                "--phases=examples,fuzzing",
                "--max-examples=12",
                "--generation-deterministic",
                "--suppress-health-check=all",  # of how fast this machine is
                # A description cannot say that a text is blank, or base64 not that of an image.
                "--exclude-checks=positive_data_acceptance",
                "--warnings=off",
                "--no-color",
                *headers,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No issues found" in run.stdout


@pytest.fixture(scope="module")
def description():
    return create_app(Path("nowhere")).openapi()


def operations(description) -> Iterator[tuple[str, dict]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_tells_of_its_errors(description):
    for name, operation in operations(description):
        assert {"422", "429", "500", "503", "504"} <= set(operation["responses"]), name
        assert ("401" in operation["responses"]) == ("security" in operation), name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)


def test_every_operation_and_field_is_described(description):
    for name, operation in operations(description):
        assert operation["description"], name
    for field, schema in description["components"]["schemas"]["SearchRequest"][
        "properties"
    ].items():
        assert "description" in schema, field


def test_examples_of_searches_are_searches(description):
    from api.http.schemas import SearchRequest

    body = description["paths"]["/v1/search"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    for example in body["application/json"]["examples"].values():
        SearchRequest.model_validate(example["value"])
