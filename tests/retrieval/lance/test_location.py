import pytest

from retrieval.errors import UsageError
from retrieval.lance.location import is_lance, parse, spelled


def test_a_directory_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse("lance:tables/one") == (str(tmp_path / "tables" / "one"), {})
    assert parse(f"lance:{tmp_path}/two") == (f"{tmp_path}/two", {})


def test_a_bucket_takes_the_options_of_the_usual_variables(monkeypatch):
    for name in ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    known = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "region": "eu-west-1",
    }
    assert parse("lance+s3://photos/a/b/") == ("s3://photos/a/b", known)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://store:9000")
    assert parse("lance+s3://photos/a")[1] == {**known, "endpoint": "https://store:9000"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    assert parse("lance+s3://photos/a")[1]["allow_http"] == "true"
    assert parse("lance+gs://photos/a") == ("gs://photos/a", {})


@pytest.mark.parametrize("location", ["/photos", "photos", "s3://b/p", "table.lance", "lance"])
def test_what_is_no_location_of_a_table(location):
    assert not is_lance(location)
    with pytest.raises(UsageError, match="not the location"):
        parse(location)


@pytest.mark.parametrize(
    "location",
    [
        "lance:",
        "lance:s3://b/p",
        "lance:a\0b",
        "lance+s3://",
        "lance+s3://bucket",
        "lance+s3://bucket/",
        "lance+s3://bucket/../other",
        "lance+s3://bucket/a b",
        "lance+s3://bucket/a?x=1",
        "lance+http://host/a",
        "lance+file:///etc",
    ],
)
def test_a_location_that_leads_nowhere_is_refused(location):
    assert is_lance(location)
    with pytest.raises(UsageError):
        parse(location)


def test_a_directory_or_a_uri_is_spelled_as_a_location(tmp_path):
    assert spelled("s3://a/b") == "lance+s3://a/b"
    assert spelled("lance+gs://a/b") == "lance+gs://a/b"
    assert spelled("/a/b") == "lance:/a/b"
    assert spelled(tmp_path) == f"lance:{tmp_path}"
