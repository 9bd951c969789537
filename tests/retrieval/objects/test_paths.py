"""Paths of objects: told from files, spelled in one way, and never a credential in them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.objects.paths import given_uri, is_object, is_uri, is_web, parent_of, shard_of


@pytest.mark.parametrize(
    ("written", "uri"),
    [
        ("s3://bucket/photos/", "s3://bucket/photos"),
        ("S3://Bucket//photos///a.jpg", "s3://Bucket/photos/a.jpg"),
        ("s3:/bucket/photos", "s3://bucket/photos"),  # as a Path spells it
        ("HTTPS://Example.ORG/A", "https://example.org/A"),
        ("gs://bucket", "gs://bucket"),
        ("az://container/x y", "az://container/x y"),
        ("http://host:8080/a%20b", "http://host:8080/a%20b"),
    ],
)
def test_a_uri_has_one_spelling(written, uri):
    assert given_uri(written) == uri
    assert given_uri(uri) == uri
    assert given_uri(Path(written)) is not None
    assert is_uri(uri)
    assert is_object(uri)


@pytest.mark.parametrize("path", ["/data/s3:/x", "s3", "photos", "C:\\x", "file:///x", "s3:x", ""])
def test_other_paths_are_no_uris(path):
    assert given_uri(path) is None
    assert not is_uri(path)


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hunter2@host/x",
        "s3://key:hunter2@bucket/x",
        "https://host/a.jpg?X-Amz-Signature=abc",
        "https://host/x#y",
        "s3://bucket/../other",
        "s3://bucket/./x",
        "https://host/a/%2e%2e/secret",
        "https://host/a%2Fb",
        "s3://bucket/a\0b",
        "https://host/a%0ab",
    ],
)
def test_what_holds_credentials_or_leads_elsewhere_is_no_source(address):
    with pytest.raises(UsageError) as refused:
        given_uri(address)
    for secret in ("hunter2", "X-Amz"):
        assert secret not in str(refused.value)


@given(st.sampled_from(["s3", "gs", "az", "http", "https"]), st.text(min_size=1))
def test_spelling_a_uri_again_changes_nothing(scheme, rest):
    try:
        uri = given_uri(f"{scheme}://{rest}")
    except UsageError:
        return
    if uri is not None:
        assert given_uri(uri) == uri
        assert not uri.endswith("/") or uri.count("/") == 2
        assert not {".", ".."} & set(uri.split("/")[3:])
        assert "@" not in uri.split("/")[2]


def test_the_parent_of_a_bucket_is_none():
    assert parent_of("s3://bucket/a/b") == "s3://bucket/a"
    assert parent_of("s3://bucket/a") == "s3://bucket"
    assert parent_of("s3://bucket") is None


def test_a_member_is_told_from_its_shard(tmp_path):
    assert shard_of("/data/000.tar/a/b.jpg") == ("/data/000.tar", "a/b.jpg")
    assert shard_of("s3://bucket/000.TAR/b.jpg") == ("s3://bucket/000.TAR", "b.jpg")
    assert shard_of("s3://bucket.tar/b.jpg") is None
    assert shard_of("/data/000.tar") is None
    assert shard_of("/data/000.tar/") is None
    (tmp_path / "folder.tar").mkdir()
    assert shard_of(str(tmp_path / "folder.tar" / "a.jpg")) is None
    assert not is_object(str(tmp_path / "folder.tar" / "a.jpg"))


@given(st.text(alphabet="ab./tr", max_size=20))
def test_a_shard_and_its_member_are_the_path(path):
    found = shard_of(path)
    if found is not None:
        assert "/".join(found) == path
        assert found[0].endswith(".tar")
        assert found[1]


def test_the_web_is_told_from_stores():
    assert is_web("https://host/x")
    assert is_web("http://host/x")
    assert not is_web("s3://bucket/x")
