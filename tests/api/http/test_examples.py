"""The examples of HTTP requests in the documents, run by `curl` against a real service."""

import json
import re
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.filters import Filter
from retrieval.library import create_library

REPOSITORY = Path(__file__).resolve().parents[3]
PAGES = ("README.md", "docs/reference.md")
PLACE = re.compile(r"localhost:8765")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def blocks(page: str) -> list[str]:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.findall(r"```(?:bash|console|sh)\n(.*?)```", text, re.DOTALL)


def examples() -> list[str]:
    found = []
    for page in PAGES:
        for block in blocks(page):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.strip() for line in lines if line.strip().startswith("curl ")]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_encoder, running_service):
    """A service, and a folder with the files that the examples send."""
    folder = tmp_path_factory.mktemp("examples")
    photos = folder / "photos" / "2024"
    photos.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (64, 48), (20 * number, 90, 200)).save(photos / f"{number}.png")
    Image.new("RGB", (64, 48), "red").save(folder / "photo.jpg")
    Image.new("RGB", (64, 48), "brown").save(folder / "dog.jpg")
    Image.new("RGB", (64, 48), "white").save(folder / "notes.pdf")
    with wave.open(str(folder / "bell.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        sound.writeframes(np.random.default_rng(0).bytes(16_000))
    library = create_library(folder / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder / "photos"], workers=1)
    with running_service(library, photos, uploads=folder / "uploads") as service:
        yield service, folder
    library.close()


def curl(line: str, folder: Path) -> tuple[int, str]:
    """Run an example; returns the status and the body."""
    done = subprocess.run(
        ["bash", "-c", line.replace("curl ", "curl --max-time 120 -w '\\n%{http_code}' ", 1)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_there_are_examples_of_all_kinds():
    text = " ".join(examples())
    for part in ("--json", "-F image=@", "--data-urlencode", "search?q=", "/batch", "since"):
        assert part in text


@pytest.mark.parametrize("line", examples())
def test_an_example_is_answered(place, line):
    service, folder = place
    client = service.client
    line = PLACE.sub(service.address.removeprefix("http://"), line)
    line = line.replace("/photos/2024", f"{folder}/photos/2024")
    if "jobs/ID" in line:
        job = client.post("/v1/index").json()["id"]
        line = line.replace("jobs/ID", f"jobs/{job}")
    if "CURSOR" in line:
        first = client.post("/v1/search", json={"text": "a dog"}).json()
        line = line.replace("CURSOR", first["next_cursor"])
    status, body = curl(line, folder)
    if "audio=@" in line:  # no encoder here takes sound, which is what is said
        assert (status, "takes audio" in body) == (422, True), body
        return
    # A job that has ended in the meantime cannot be cancelled.
    expected = {200, 201, 202} | ({409} if "DELETE" in line and "jobs" in line else set())
    assert status in expected, body
    if "/v1/search" in line:
        answer = json.loads(body)
        assert "hits" in answer or all(entry["answer"] for entry in answer["answers"])


def test_the_filters_of_the_documents_are_filters():
    text = "\n".join((REPOSITORY / page).read_text(encoding="utf-8") for page in PAGES)
    found = re.findall(r"--where '(\{.*?\})'", text)
    section = (REPOSITORY / "docs/reference.md").read_text(encoding="utf-8")
    section = section.partition("\n## Filters")[2].partition("\n## ")[0]
    found += [f"{{{one}}}" for one in re.findall(r'`("[a-z_]+": [^`]*)`', section)]
    found += re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    complete = [one for one in found if "..." not in one]
    assert len(complete) > 8
    for one in complete:
        Filter.model_validate_json(one, strict=True)


def test_the_port_of_the_examples_is_that_of_the_service():
    from api.http.settings import ServiceSettings

    assert ServiceSettings.model_fields["port"].default == 8765
