"""Whole processes are timed, with their peak memory."""

import sys

import pytest

from benchmarks.speed.startup import (
    FIRST_SEARCH,
    HELP,
    REQUEST,
    RESIDENT_SEARCH,
    SERVED_SEARCH,
    Command,
    CommandFailedError,
    Startup,
    measure_startup,
    rclip_commands,
    run_command,
)


def python(program: str) -> Command:
    return Command("python", [sys.executable, "-c", program], {"WORD": "heard"})


def test_time_and_peak_memory_of_a_process_are_told():
    own = "import os, time; assert os.environ['WORD'] == 'heard'; time.sleep(0.3)"
    seconds, peak = run_command(python(own))
    assert 0.3 <= seconds < 60
    assert 4 << 20 < peak < 60 << 20  # far less than of this process, which started it
    _, more = run_command(python("block = b'x' * (100 << 20)"))
    assert 90 << 20 < more - peak < 120 << 20


def test_commands_keep_their_byte_code(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    run_command(python("import sys; assert not sys.dont_write_bytecode"))


def test_a_command_that_fails_is_told_with_what_it_printed():
    with pytest.raises(CommandFailedError, match=r"(?s)python ended with exit code 3.*no such"):
        run_command(python("print('no such'); raise SystemExit(3)"))
    with pytest.raises(CommandFailedError, match=r"(?s)lost ended with exit code 127.*nowhere"):
        run_command(Command("lost", ["/nowhere/at-all"]))


def test_the_median_counts():
    assert Startup("x", (3.0, 1.0, 2.0), None).median_s == 2.0


def test_rclip_searches_without_indexing_in_its_own_data(tmp_path):
    help_of, search = rclip_commands(tmp_path / "rclip", "a dog", tmp_path)
    assert help_of.words[1:] == ["--help"]
    assert "--no-indexing" in search.words
    assert search.words[-1] == "a dog"
    assert search.environment == {"RCLIP_DATADIR": str(tmp_path)}


@pytest.mark.slow
def test_commands_are_measured_in_turn(indexed_library):
    program = [sys.executable, "-c", "from api.cli import main; main()"]
    runs = []
    results = measure_startup(
        program,
        indexed_library.path,
        "a dog",
        beside=[python("pass")],
        rounds=1,
        on_run=lambda name, seconds: runs.append(name),
    )
    assert runs == [HELP, FIRST_SEARCH, SERVED_SEARCH, RESIDENT_SEARCH, "python"] * 2
    by_name = {result.name: result for result in results}
    assert set(by_name) == {HELP, FIRST_SEARCH, SERVED_SEARCH, RESIDENT_SEARCH, REQUEST, "python"}
    assert all(len(result.seconds) == 1 for result in results)
    assert by_name[REQUEST].peak_memory_bytes is None
    assert by_name["python"].peak_memory_bytes < by_name[HELP].peak_memory_bytes
    assert by_name[HELP].peak_memory_bytes < by_name[FIRST_SEARCH].peak_memory_bytes
    assert by_name[REQUEST].median_s < by_name[SERVED_SEARCH].median_s
