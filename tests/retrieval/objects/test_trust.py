"""Only servers that the user named are connected to."""

import pytest

from retrieval.objects.trust import (
    SOURCES,
    is_trusted_uri,
    require_trusted_uri,
    trust_uri,
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
    assert SOURCES.all() == ["s3://bucket/photos"]


def test_what_nobody_named_is_not_connected_to():
    with pytest.raises(PermissionError, match="never named"):
        require_trusted_uri("http://169.254.169.254/latest")


OF_ALL = ["../x", "a/..", "a/./x"]
OF_THE_WEB = ["%2e%2e/x", ".%2E/x", ".\t./x", "a?x=1", "a#x", "a%2f..%2fx"]


@pytest.mark.parametrize(
    ("root", "below"),
    [
        *(("s3://bucket/photos", below) for below in OF_ALL),
        *(("https://host.example/photos", below) for below in OF_ALL + OF_THE_WEB),
    ],
)
def test_nothing_leads_out_of_what_was_named(root, below):
    trust_uri(root)
    assert not is_trusted_uri(f"{root}/{below}")
    with pytest.raises(PermissionError, match="lead elsewhere"):
        require_trusted_uri(f"{root}/{below}")


def test_keys_of_objects_are_not_decoded():
    trust_uri("s3://bucket/photos")
    for below in OF_THE_WEB:
        assert is_trusted_uri(f"s3://bucket/photos/{below}")


def test_trust_is_recorded_and_can_be_taken_back(monkeypatch):
    trust_uri("s3://bucket/photos")
    monkeypatch.setenv(SOURCES.variable, "")
    assert is_trusted_uri("s3://bucket/photos/a.jpg")
    assert SOURCES.remove("s3://bucket/photos")
    assert not SOURCES.remove("s3://bucket/photos")
    assert not is_trusted_uri("s3://bucket/photos")


def test_a_variable_names_sources_for_services(monkeypatch):
    monkeypatch.setenv(SOURCES.variable, " s3://bucket/my photos https://Host.example/b/\ngs://x ")
    for uri in ("https://host.example/b/x", "s3://bucket/my photos/x", "gs://x"):
        assert is_trusted_uri(uri)
    trust_uri("s3://bucket/more of them")
    assert is_trusted_uri("s3://bucket/more of them")
    assert not is_trusted_uri("s3://bucket/more")
