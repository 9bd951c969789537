"""`mmsearch status`, `remove` and `encoders` as users call them."""

from pathlib import Path

from PIL import Image


def test_status_counts_and_lists_failures(indexed, run, picture_folder):
    (picture_folder / "bad \x1b[31m.png").write_bytes(b"no")
    run("index", picture_folder)
    status = run("status", "--json").json
    assert (status["images"], status["files_failed"]) == (6, 1)
    assert status["bytes"] == sum(status["storage"].values())
    assert status["storage"]["embeddings"] > 0
    assert status["sources"] == [str(picture_folder)]
    assert "Images    6" in run("status").out
    listed = run("status", "--failed").out
    assert "not an image of a known format" in listed
    assert "\x1b" not in listed
    failures = run("status", "--failed", "--json").json["failures"]
    assert [Path(f["path"]).name for f in failures] == ["bad \x1b[31m.png"]


def test_status_lists_notes_on_files_that_were_read_in_part(indexed, run, picture_folder):
    assert "Nothing to note" in run("status", "--notes").out
    path = picture_folder / "cut \x1b[31m.jpg"
    Image.effect_noise((90, 90), 60).save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "1 file was read in part: mmsearch status --notes" in run("index", picture_folder).out
    status = run("status", "--notes", "--failed", "--json").json
    assert (status["files_noted"], status["failures"]) == (1, [])
    [noted] = status["notes"]
    assert noted["path"] == str(path)
    assert "cut off" in noted["notes"][0]
    listed = run("status", "--notes").out
    assert "cut off" in listed
    assert "\x1b" not in listed


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
    shown = run("encoders").out
    assert "starter" in shown
    for form in ("local-dir:DIR", "assembled:IMAGE_TOWER+TEXT_TOWER", "clap:", "late-interaction:"):
        assert form in shown
    assert "assembled:IMAGE_TOWER+TEXT_TOWER" in run("encoders", "--json").json["forms"]
    assert len(run("encoders", "--all", "--json").json["encoders"]) > 100


def test_encoders_are_listed_by_language(run):
    listed = run("encoders", "--language", "zh-CN", "--json").json["encoders"]
    assert listed[0]["note"] == "recommended"
    assert "Tschannen" not in listed[0]["source"]
    assert listed[0]["recall"] == 72.52
    shown = run("encoders", "--language", "zh").out
    assert "72.52" in shown
    assert "Chinese on Crossmodal-3600" in shown
    wrong = run("encoders", "--language", "Chinese")
    assert wrong.code == 2
    assert "ISO 639" in wrong.err


def test_a_renamed_folder_is_relocated(indexed, run, picture_folder, tmp_path):
    new = picture_folder.rename(tmp_path / "new pictures")
    status = run("status")
    assert f"mmsearch relocate {picture_folder} NEW" in status.err
    assert f"mmsearch remove {picture_folder}" in status.err
    assert run("status", "--json").json["missing_sources"] == [str(picture_folder)]
    planned = run("relocate", picture_folder, new, "--dry-run")
    assert f"6 of 6 searchable files of {picture_folder} are at {new}" in planned.out
    assert run("relocate", picture_folder, tmp_path / "nowhere").code == 1
    (tmp_path / "empty").mkdir()
    refused = run("relocate", picture_folder, tmp_path / "empty")
    assert refused.code == 2
    assert "None of the 6 files" in refused.err
    done = run("relocate", picture_folder, new, "--json").json
    assert (done["files"], done["there"], done["same"]) == (6, 6, 6)
    assert (done["relocated"], done["hidden"], done["dry_run"]) == (6, 0, False)
    status = run("status", "--json").json
    assert (status["sources"], status["missing_sources"]) == ([str(new)], [])
    hits = run("search", "x", "--json").json["hits"]
    assert all(Path(hit["path"]).parts[: len(new.parts)] == new.parts for hit in hits)


def test_relocating_without_the_files_takes_force(indexed, run, picture_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("relocate", picture_folder, tmp_path / "empty", "--force")
    assert "6 files relocated" in done.out
    assert f"mmsearch index {tmp_path / 'empty'}" in done.err
