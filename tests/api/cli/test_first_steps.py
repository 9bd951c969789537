"""What `mmsearch` alone says depends on what is here."""

from api.cli.first_steps import first_steps


def commands() -> list[str]:
    return [command for command, _ in first_steps()]


def test_the_steps_depend_on_what_is_here(run, picture_folder, tmp_path, monkeypatch, encoder_name):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    shown = run()
    assert shown.code == 0
    assert 'cd ~/Pictures && mmsearch "a dog in the snow"' in shown.out
    monkeypatch.chdir(picture_folder)
    assert "index 6 files of this folder" in run().out
    assert run("index", picture_folder / "folder 0", "--encoder", encoder_name).code == 0
    assert "search your library" in run().out
    monkeypatch.chdir(picture_folder / "folder 0")
    assert "this folder, which is indexed" in run().out
    assert len(run().out.splitlines()) < 10


def test_a_folder_that_was_deleted_is_no_hindrance(run, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "mmsearch index DIR..." in commands()
