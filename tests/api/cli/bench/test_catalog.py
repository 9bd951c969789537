"""`mmsearch bench catalog` as users call it."""

import json

from retrieval.errors import UsageError
from retrieval.library import create_library, open_library


def test_a_library_is_made_measured_and_kept(run, tmp_path):
    folder = tmp_path / "library"
    first = run("catalog", "--items", 200, "--rounds", 1, "--library", folder, "--json")
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    assert (result["items"], result["timings"][0]["what"]) == (200, "first filter after a commit")
    open_library(folder).close()
    again = run("catalog", "--rounds", 1, "--library", folder)
    assert again.exit_code == 0, again.output
    assert "| 200 items | median ms |" in again.stdout


def test_a_library_of_photos_is_left_alone(run, tmp_path, tiny_encoder):
    create_library(tmp_path / "mine", tiny_encoder.space).close()
    refused = run("catalog", "--library", tmp_path / "mine")
    assert isinstance(refused.exception, UsageError)
