import json

from typer.testing import CliRunner

from api.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_backup_and_restore(indexed_library, tmp_path):
    done = run("backup", tmp_path / "backup", "--library", indexed_library.path)
    assert done.exit_code == 0
    assert "6 vectors, 6 of them new" in done.stdout
    again = run("backup", tmp_path / "backup", "--library", indexed_library.path, "--json")
    assert json.loads(again.stdout)["copied_rows"] == 0
    restored = run("restore", tmp_path / "backup", "--library", tmp_path / "new")
    assert restored.exit_code == 0, restored.output
    assert "Restored and verified" in restored.stdout
    assert run("check", "--library", tmp_path / "new").exit_code == 0


def test_damaged_vectors_exit_with_1(indexed_library, tmp_path):
    run("backup", tmp_path / "backup", "--library", indexed_library.path)
    [file] = (tmp_path / "backup").rglob("*.f16")
    file.write_bytes(bytes(file.stat().st_size))
    result = run("restore", tmp_path / "backup", "--library", tmp_path / "new", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout.partition("}")[0] + "}")["damaged"] == 6
