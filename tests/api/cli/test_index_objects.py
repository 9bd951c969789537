"""Commands on sources of servers, as users call them."""

import pytest

from tests.object_servers import (  # noqa: F401 - fixtures
    clean_sources,
    picture,
    s3,
    s3_process,
    shard,
)

pytestmark = pytest.mark.slow

SOURCE = "s3://bucket/album"


def test_a_bucket_from_the_first_run_to_the_last(s3, run, encoder_name):  # noqa: F811
    s3.put("bucket", {f"album/{n}.png": picture(n) for n in range(2)})
    s3.put("bucket", {"album/s.tar": shard({"m.png": picture(5), "m.txt": b"a xylophone"})})
    counts = run("index", SOURCE + "/", "--archives", "--encoder", encoder_name, "--json").json
    assert (counts["added"], counts["failed"]) == (3, 0)
    assert SOURCE in run("trust", "--json").json["trusted"]
    status = run("status", "--json").json
    assert (status["sources"], status["missing_sources"]) == ([SOURCE], [])
    [hit] = run("search", "xylophone", "-k", "1", "--json").json["hits"]
    assert hit["path"] == f"{SOURCE}/s.tar/m.png"
    for place, count in ((SOURCE, 3), (f"{SOURCE}/0.png", 1), (f"{SOURCE}/s.tar", 1)):
        assert len(run("search", "x", "--source", place, "--json").json["hits"]) == count
    assert run("collections", "add", "best", f"{SOURCE}/1.png").code == 0
    assert run("check", "--files").code == 0
    removed = run("remove", f"{SOURCE}/0.png")
    assert "find it again" in removed.out
    assert "2 unchanged" in run("index").out
    assert run("relocate", SOURCE, "s3://bucket/nothing").code == 2
    client = s3.client()
    for name in ("0.png", "1.png", "s.tar"):
        copied = {"Bucket": "bucket", "Key": f"album/{name}"}
        client.copy_object(Bucket="bucket", Key=f"moved/{name}", CopySource=copied)
        client.delete_object(**copied)
    assert run("relocate", SOURCE, "s3://bucket/moved").code == 0
    s3.read()
    assert "3 unchanged" in run("index").out
    assert s3.read() == []
    assert run("index", "https://name:word@host/x").code == 2
    unreachable = run("index", "s3://no-such-bucket/x")
    assert unreachable.code == 1
    assert "cannot be indexed" in unreachable.err
