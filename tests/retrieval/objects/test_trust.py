"""Only servers that the user named are connected to."""

import json
import os

import pytest

from retrieval.objects import trust as record
from retrieval.objects.trust import (
    VARIABLE,
    distrust_uri,
    is_trusted_uri,
    require_trusted_uri,
    trust_uri,
    trusted_uris,
)
from tests.object_servers import clean_sources  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def _nothing_trusted(clean_sources):  # noqa: F811
    return None


def test_what_was_named_is_trusted_with_all_below_it():
    trust_uri("s3://bucket/photos")
    assert is_trusted_uri("s3://bucket/photos")
    assert is_trusted_uri("s3://bucket/photos/a.jpg")
    for other in ("s3://bucket", "s3://bucket/photos2", "s3://other/photos", "gs://bucket/photos"):
        assert not is_trusted_uri(other)
    assert trusted_uris() == ["s3://bucket/photos"]


def test_what_nobody_named_is_not_connected_to():
    with pytest.raises(PermissionError, match="never named"):
        require_trusted_uri("http://169.254.169.254/latest")


def test_trust_is_recorded_and_can_be_taken_back(monkeypatch):
    trust_uri("s3://bucket/photos")
    assert "s3://bucket/photos" in os.environ[VARIABLE]  # for child processes
    monkeypatch.setenv(VARIABLE, "")
    assert is_trusted_uri("s3://bucket/photos/a.jpg")
    assert distrust_uri("s3://bucket/photos")
    assert not distrust_uri("s3://bucket/photos")
    assert not is_trusted_uri("s3://bucket/photos")


def test_a_variable_names_sources_for_services(monkeypatch):
    monkeypatch.setenv(VARIABLE, " s3://bucket/my photos https://Host.example/b/\ngs://x ")
    assert trusted_uris() == ["gs://x", "https://host.example/b", "s3://bucket/my photos"]
    trust_uri("s3://bucket/more of them")
    assert "s3://bucket/more of them" in trusted_uris()
    assert not is_trusted_uri("s3://bucket/more")


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[1, null]", "3"])
def test_a_damaged_record_trusts_nothing(content):
    record.record_file().parent.mkdir(parents=True, exist_ok=True)
    record.record_file().write_text(content)
    assert trusted_uris() in ([], ["a"])
    trust_uri("s3://bucket")
    assert "s3://bucket" in json.loads(record.record_file().read_text())


def test_without_a_place_for_the_record_this_process_trusts(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    trust_uri("s3://bucket")
    assert is_trusted_uri("s3://bucket/a")
