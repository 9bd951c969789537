import json

import pytest
from typer.testing import CliRunner

from api.cli import app
from retrieval.media import Modality


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def damaged(indexed_library):
    file = indexed_library.embeddings(indexed_library.space(), Modality.IMAGE)
    with file.path.open("r+b") as stream:
        stream.write(bytes(64))
    return indexed_library


def test_a_whole_library(indexed_library):
    result = run("check", "--library", indexed_library.path, "--files")
    assert result.exit_code == 0
    assert "no damage found (6 vectors" in result.stdout


def test_damage_is_told_then_repaired(damaged):
    told = run("check", "--library", damaged.path)
    assert told.exit_code == 1
    assert "1 vectors are damaged" in told.output
    assert "mmsearch check --repair" in told.output
    repaired = run("check", "--repair", "--library", damaged.path)
    assert repaired.exit_code == 0, repaired.output
    assert "1 vectors made again" in repaired.output
    assert run("check", "--library", damaged.path).exit_code == 0


def test_json(damaged):
    facts = json.loads(run("check", "--json", "--library", damaged.path).stdout)
    assert (facts["ok"], facts["repaired"], facts["vectors"]) == (False, None, 6)
    assert facts["problems"][0]["part"] == "vectors"
    facts = json.loads(run("check", "--json", "--repair", "--library", damaged.path).stdout)
    assert facts["ok"]
    assert facts["repaired"] == {"embedded": 1, "deleted": 0, "problems": []}


def test_a_search_says_what_it_left_out(damaged):
    result = run("search", "a dog", "--library", damaged.path, "--json", "--rerank", "none")
    answer = json.loads(result.stdout)
    assert len(answer["hits"]) == 5
    assert any("mmsearch check --repair" in warning for warning in answer["warnings"])
