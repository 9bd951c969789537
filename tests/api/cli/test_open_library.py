"""Which library and which encoder a command writes with."""


def test_another_encoder_than_the_librarys(indexed, run, picture_folder, tiny_checkpoint, tmp_path):
    import shutil

    other = tmp_path / "other-checkpoint"
    shutil.copytree(tiny_checkpoint, other)
    result = run("index", picture_folder, "--encoder", f"local-dir:{other}")
    assert result.code == 1
    assert "--space new" in result.err
    result = run("index", picture_folder, "--encoder", f"local-dir:{other}", "--space", "new")
    assert "6 added" in result.out
    spaces = run("status", "--json").json["spaces"]
    assert len(spaces) == 2
    for space in spaces:
        assert len(run("search", "x", "--space", space, "--json").json["hits"]) == 6
    assert run("search", "x", "--space", "nonsense").code == 2


def test_a_damaged_library_is_reported(indexed, run, tmp_path):
    (tmp_path / "library" / "library.toml").write_text("=")
    result = run("search", "x")
    assert result.code == 1
    assert "cannot be read" in result.err
