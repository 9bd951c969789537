import sys
import time

import pytest

from benchmarks.speed.processes import run_measured


def run(program: str, **options):
    return run_measured([sys.executable, "-c", program], **options)


def test_a_program_is_timed_and_its_last_words_are_kept(tmp_path):
    program = "import os, time; time.sleep(0.3); print(os.getcwd(), os.environ['WORD'])"
    finished = run(program, folder=tmp_path, environment={"WORD": "heard"})
    assert finished.exit_code == 0
    assert 0.3 <= finished.seconds < 30
    assert finished.output == f"{tmp_path} heard"


def test_an_error_is_told_by_exit_code_and_output():
    finished = run("import sys; sys.exit('no such thing')")
    assert (finished.exit_code, finished.output) == (1, "no such thing")


def test_one_that_takes_too_long_is_killed():
    began = time.perf_counter()
    assert run("import time; time.sleep(60)", limit_s=0.5).exit_code != 0
    assert time.perf_counter() - began < 30


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_of_descendants_counts():
    hold = "import time; block = b'x' * (60 << 20); time.sleep(1.5)"
    program = (
        "import subprocess, sys\n"
        f"both = [subprocess.Popen([sys.executable, '-c', {hold!r}]) for _ in range(2)]\n"
        "for one in both: one.wait()"
    )
    finished = run(program)
    assert finished.peak_memory_bytes > 120 << 20
    alone = run(hold)
    assert 60 << 20 < alone.peak_memory_bytes < 110 << 20
