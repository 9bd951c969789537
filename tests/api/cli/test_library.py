"""`mmsearch status`, `remove` and `encoders` as users call them."""

from pathlib import Path


def test_status_counts_and_lists_failures(indexed, run, picture_folder):
    (picture_folder / "bad \x1b[31m.png").write_bytes(b"no")
    run("index", picture_folder)
    status = run("status", "--json").json
    assert (status["images"], status["files_failed"]) == (6, 1)
    assert status["sources"] == [str(picture_folder)]
    assert "Images    6" in run("status").out
    listed = run("status", "--failed").out
    assert "not an image of a known format" in listed
    assert "\x1b" not in listed
    failures = run("status", "--failed", "--json").json["failures"]
    assert [Path(f["path"]).name for f in failures] == ["bad \x1b[31m.png"]


def test_removing_forgets(indexed, run, picture_folder):
    result = run("remove", picture_folder / "folder 0")
    assert "3 files removed from the library" in result.out
    assert "next `mmsearch index` will find it again" in result.out
    assert len(run("search", "x", "--json").json["hits"]) == 3
    assert run("remove", picture_folder, "--json").json["removed"] == 3
    assert run("remove", picture_folder / "nowhere").code == 1


def test_encoders_lists_starter_first(run):
    listed = run("encoders", "--json").json["encoders"]
    assert listed[0]["name"] == "starter"
    assert listed[0]["local"] is True
    assert "starter" in run("encoders").out
    assert len(run("encoders", "--all", "--json").json["encoders"]) > 100
