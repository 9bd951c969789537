"""Pictures in terminals, real ones where their answers matter."""

import os
import pty
import select
import subprocess
import sys
import termios
import time
import tty

import pytest

from api.cli.preview import _rows

KITTY = [(b"\x1b[c", b"\x1b[?62c"), (b"_G", b"\x1b_Gi=1;OK\x1b\\")]
SIXEL = [(b"\x1b[c", b"\x1b[?62;4c")]
PLAIN = [(b"\x1b[c", b"\x1b[?62c")]


def test_pictures_fit_into_the_terminal():
    assert _rows((400, 300), 74) == 12
    assert _rows((400, 300), 20) == 7
    assert _rows((4000, 3), 74) == 1
    assert _rows((3, 4000), 74) == 12


def test_without_a_terminal_or_the_package_a_note_says_so(indexed, run, monkeypatch):
    result = run("search", "a dog", "-p")
    assert "no terminal that can show them" in result.err
    assert len(result.out.splitlines()) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "mark", "lacks"),
    [
        (KITTY, "\U0010eeee".encode(), b"\x1bP"),
        (SIXEL, b"\x1bP", "\U0010eeee".encode()),
        (PLAIN, "▀".encode(), b"\x1bP"),
        ([], "▀".encode(), b"Traceback"),
    ],
    ids=["kitty", "sixel", "others", "silent"],
)
def test_each_terminal_gets_what_it_can_show(answers, mark, lacks):
    pytest.importorskip("textual_image")
    shown = in_terminal(answers)
    assert mark in shown
    assert lacks not in shown
    assert shown.endswith(b"end\n")
    assert mark not in in_terminal(answers, (0, 0))


PROGRAM = """
from PIL import Image
from api.cli.console import out
from api.cli.preview import picture_printer
show = picture_printer(out, lambda _: Image.new("RGB", (40, 30), "red"))
if show:
    show(None)
out.print("end")
"""


def in_terminal(answers: list[tuple[bytes, bytes]], size: tuple[int, int] = (24, 80)) -> bytes:
    """Show a picture in a terminal that gives these answers to what it is asked."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs, termios.TCSANOW)
    termios.tcsetwinsize(theirs, size)
    command = [sys.executable, "-c", PROGRAM]
    surroundings = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings):
        os.close(theirs)
        shown, open_questions, end = b"", list(answers), time.monotonic() + 120
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
            for question in [one for one in open_questions if one[0] in shown]:
                open_questions.remove(question)
                os.write(ours, question[1])
    os.close(ours)
    return shown
