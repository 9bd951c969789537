"""Whole libraries as Lance tables: `mmsearch export --lance`, `import`, `copy`, `serve --copy`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from api.cli.tables import is_table, parse_shard
from indexer.pipeline import hide_files, index_sources
from retrieval.errors import UsageError
from retrieval.library import create_library, open_library
from tests.rich_library import contents_of

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


@pytest.fixture
def filled(tmp_path, space, write_files):
    import numpy as np

    library = create_library(tmp_path / "library", space)
    vectors = np.eye(8, dtype=np.float32)
    write_files(library, {f"/p/{n}.png": vectors[n : n + 1] for n in range(6)})
    return library


@pytest.fixture
def space():
    from retrieval.encoders.base import Space

    return Space("toy", "sha256:0", "none", 8)


def test_a_library_goes_to_a_table_and_back(run, filled, tmp_path):
    table = f"lance:{tmp_path}/table"
    told = run("export", table)
    assert told.code == 0
    assert "is at version 2: 6 files written, 0 unchanged, 0 deleted" in told.out
    again = run("export", "--lance", tmp_path / "table", "--json").json
    assert again["files"] == {"written": 0, "unchanged": 6, "deleted": 0}
    assert (again["table"], again["version"], again["items"]) == (table, 2, 6)
    new = tmp_path / "new"
    assert "6 rows taken, 0 items and files removed" in run("import", table, "--library", new).out
    assert run("import", table, "--library", new, "--json").json["rows"] == 0
    assert contents_of(open_library(new)) == contents_of(filled)
    # A directory that holds a table is told by what it says of itself.
    assert run("import", tmp_path / "table", "--library", new, "--json").json["table"] == table


def test_plain_vectors_are_still_files(run, filled, tmp_path):
    assert "Exported 6 vectors" in run("export", tmp_path / "plain.lance").out
    assert not is_table(tmp_path / "plain.lance")
    imported = run("import", tmp_path / "plain.lance", "--library", tmp_path / "plain")
    assert "Imported 6 vectors" in imported.out
    refused = run("export", f"lance:{tmp_path}/plain.lance")
    assert (refused.code, "none that mmsearch wrote" in refused.err) == (2, True)
    assert run("export", f"lance:{tmp_path}/whole.lance").code == 0
    refused = run("export", tmp_path / "whole.lance")
    assert (refused.code, "plain vectors would replace" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export"], "Give a FILE"),
        (["export", "a.npy", "--lance", "lance:b"], "Give a FILE"),
        (["export", "lance:b", "--modality", "image"], "the whole library"),
        (["export", "--lance", "lance:b", "--where", '{"path": "x"}'], "the whole library"),
        (["export", "lance:"], "names no directory"),
        (["import", "lance+s3://bucket"], "names no table"),
        (["import", "lance:b", "--modality", "text"], "leave out `--modality`"),
        (["copy", "lance:b", "c", "--shard", "2/2"], "write I/N"),
        (["serve", "--copy", "c"], "one Lance table"),
        (["serve", "--copy", "c", "--library", "d"], "one Lance table"),
        (["serve", "--shard", "0/2"], "are of a copy"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    run, filled, monkeypatch, tmp_path, arguments, message
):
    monkeypatch.chdir(tmp_path)
    refused = run(*arguments)
    assert refused.code == 2
    assert message in refused.err
    assert not (tmp_path / "b").exists()


def test_a_missing_table_is_told(run, filled, tmp_path):
    missing = run("copy", tmp_path / "nothing", tmp_path / "copy")
    assert (missing.code, "There is no table" in missing.err) == (1, True)
    assert not (tmp_path / "copy").exists()


def test_vectors_of_one_space_are_not_imported_into_another(run, filled, tmp_path, other_encoder):
    table = f"lance:{tmp_path}/table"
    run("export", table)
    other = create_library(tmp_path / "other", other_encoder.space)
    refused = run("import", table, "--library", other.path)
    assert (refused.code, "--space new" in refused.err) == (1, True)
    assert run("import", table, "--library", other.path, "--space", "wrong").code == 2
    assert run("import", table, "--library", other.path, "--space", "new").code == 0
    assert len(other.space_ids()) == 2


def test_copies_take_items_from_their_table_only(run, filled, tmp_path, tiny_encoder):
    run("export", f"lance:{tmp_path}/table")
    for shard in ("0/2", "1/2"):
        told = run("copy", tmp_path / "table", tmp_path / f"copy{shard[0]}", "--shard", shard)
        assert told.code == 0, told.err
    both = [contents_of(open_library(tmp_path / f"copy{n}")) for n in range(2)]
    assert both[0] | both[1] == contents_of(filled)
    refused = run("remove", "/p", "--library", tmp_path / "copy0")
    assert (refused.code, "follows it" in refused.err) == (2, True)
    with pytest.raises(UsageError, match="is a copy"):
        index_sources(open_library(tmp_path / "copy1"), tiny_encoder, [tmp_path])
    with pytest.raises(UsageError, match="is a copy"):
        hide_files(open_library(tmp_path / "copy1"), ["/p"])


def test_shards_are_parsed():
    assert parse_shard(None) == (0, 1)
    assert parse_shard("3/4") == (3, 4)
    for wrong in ("", "4/4", "1", "a/b", "-1/2", "0/0", "1/2/3"):
        with pytest.raises(UsageError):
            parse_shard(wrong)


@pytest.mark.slow
def test_a_service_follows_a_table_in_a_store(
    run, bucket, tmp_path, tiny_encoder, picture_folder, object_store
):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [picture_folder / "folder 0"], workers=1)
    table = f"lance+s3://{bucket}/photos"
    assert run("export", "--lance", table).code == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--library", table, "--copy", str(tmp_path / "copy"), "--poll", "0.2"]
    with subprocess.Popen(
        [
            *(sys.executable, "-c", "from api.cli import main; main()", "serve", *options),
            *("--port", str(port), "--device", "cpu", "--rerank", "none"),
        ],
        env=os.environ | object_store.environment,
        stderr=subprocess.PIPE,
    ) as service:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

                def found() -> set[str]:
                    assert service.poll() is None, service.stderr.read()
                    try:
                        answer = client.post("/v1/search", json={"text": "x", "k": 100})
                    except httpx.TransportError:
                        return set()
                    hits = answer.json().get("hits", []) if answer.is_success else []
                    return {hit["path"] for hit in hits}

                def wait_for(count: int) -> None:
                    for _ in range(1200):
                        if len(found()) == count:
                            return
                        time.sleep(0.1)
                    raise AssertionError(found())

                wait_for(3)
                index_sources(library, tiny_encoder, [picture_folder], workers=1)
                assert run("export", "--lance", table).code == 0
                wait_for(6)
                (picture_folder / "folder 0" / "picture-0.png").unlink()
                index_sources(library, tiny_encoder, [picture_folder], workers=1)
                assert run("export", "--lance", table).code == 0
                wait_for(5)
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate(timeout=60)
    assert json.loads((tmp_path / "copy" / "tables.json").read_text())
    open_library(tmp_path / "copy").close()
