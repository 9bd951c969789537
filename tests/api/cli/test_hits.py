"""How hits are printed: in pipes, in terminals of any width, and as paths alone."""

import io
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from api.cli import hits as module
from api.cli.console import PrintableConsole
from api.cli.hits import Style, print_hits, print_paths, shared_out, shorten_end, shorten_middle
from retrieval.catalog import Item
from retrieval.media import MediaKind, Modality
from retrieval.search.answer import Answer, Hit


def hit(rank: int = 1, path: str = "/photos/a.jpg", **facts) -> Hit:
    scores = {name: facts.pop(name) for name in ("match", "relevance", "words") if name in facts}
    modality = facts.pop("modality", Modality.IMAGE)
    item = Item(rank, path, MediaKind.IMAGE, modality, "h", 1, 1, **facts)
    return Hit(rank, item, 0.3, found_by=item.found_by, **scores)


@pytest.fixture
def terminal(monkeypatch):
    """Print to a terminal of some width, and return its lines; links are written in full."""

    def show(answer: Answer, style: Style = Style(), width: int = 80) -> list[str]:  # noqa: B008
        file = io.StringIO()
        console = PrintableConsole(
            file=file, force_terminal=True, width=width, highlight=False, soft_wrap=True
        )
        monkeypatch.setattr(module, "out", console)
        monkeypatch.setattr(console, "_color_system", None)
        print_hits(answer, style)
        return file.getvalue().splitlines()

    return show


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("-caption0", "  generated caption"),
        ("p1-ocr0", "  text in the picture"),
        ("-speech1200", "  speech"),
        ("", ""),
    ],
)
def test_verbose_lines_say_which_model_found_a_text(terminal, part, said):
    found = hit(modality=Modality.TEXT, part=part, text="two dogs")
    verbose, brief = (
        terminal(Answer((found,), {}), Style(is_verbose=is_verbose), width=120)[-1]
        for is_verbose in (True, False)
    )
    assert verbose.endswith(said)
    assert not said or said not in brief


def test_a_pipe_gets_rank_relevance_and_path(indexed, run, picture_folder, monkeypatch):
    monkeypatch.chdir(picture_folder)
    lines = run("search", "a dog", "-n", 2).out.splitlines()
    assert len(lines) == 2
    rank, relevance, path = lines[0].split(maxsplit=2)
    assert rank == "1"
    assert 0 <= int(relevance.removesuffix("%")) <= 100
    assert (picture_folder / path).exists()
    _, _, similarity, path = run("search", "a dog", "-v").out.splitlines()[0].split(maxsplit=3)
    assert float(similarity) <= 1
    assert (picture_folder / path).exists()


def test_pages_follow_one_another(indexed, run):
    whole = run("search", "a dog").out.splitlines()
    pages = [run("search", "a dog", "-k", 2, "--page", page).out for page in (1, 2, 3)]
    paths = [line.split(maxsplit=2)[::2] for line in "".join(pages).splitlines()]
    assert paths == [line.split(maxsplit=2)[::2] for line in whole]
    assert "No more hits." in run("search", "a dog", "--page", 2).err
    assert run("search", "a dog", "--page", 2, "--cursor", "x").code == 2


@pytest.mark.parametrize("flag", ["-k", "-n", "--top", "--limit"])
def test_the_number_of_hits_has_the_names_of_other_programs(indexed, run, flag):
    assert len(run("search", "a dog", flag, 4).out.splitlines()) == 4


@pytest.mark.slow
def test_paths_alone_are_for_other_programs(indexed, picture_folder):
    expected = {str(path) for path in picture_folder.rglob("*.png")}
    program = [sys.executable, "-c", "from api.cli import main; main()", "search", "a dog"]
    for flag, end in (("-f", b"\n"), ("-0", b"\0")):
        found = subprocess.run([*program, flag], check=True, capture_output=True).stdout
        assert {os.fsdecode(path) for path in found.split(end)[:-1]} == expected


def test_paths_are_printed_once_and_as_they_are(capfdbinary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strange = os.fsdecode(b"/photos/caf\xe9\n.jpg")
    hits = (hit(1, strange), hit(2, strange), hit(3, str(tmp_path / "-rf.jpg")))
    print_paths(Answer(hits, {}), "\0")
    assert capfdbinary.readouterr().out == b"/photos/caf\xe9\n.jpg\0./-rf.jpg\0"


def test_percentages_fall_down_the_list():
    hits = [hit(1, relevance=0.2), hit(2, relevance=0.9), hit(3, relevance=0.5)]
    assert [one.relevance for one in shared_out(hits)] == [0.9, 0.5, 0.2]
    assert [one.rank for one in shared_out(hits)] == [1, 2, 3]
    partly = [hit(1), hit(2, relevance=0.5)]
    assert shared_out(partly) == partly


def test_percentages_do_not_rise_from_page_to_page(terminal):
    first = hit(1, relevance=0.4)
    passage = hit(2, relevance=0.8, modality=Modality.TEXT)
    answer = Answer((hit(3, relevance=0.7), hit(4, relevance=0.2)), {})
    _, *lines = terminal(answer, Style(before=[first, passage]))
    assert [line.split()[1] for line in lines] == ["40%", "20%"]


def test_a_terminal_gets_headings_and_how_to_see_more(terminal):
    answer = Answer((hit(relevance=0.87, words=1.0),), {}, next_cursor="opaque", left_out=1200)
    heading, line, left_out, more = terminal(answer)
    assert heading.split() == ["#", "relevance", "path"]
    assert line.index("/photos") == heading.index("path")
    assert line.endswith("/photos/a.jpg  by its words")
    assert "1,200 less relevant" in left_out
    assert more.endswith("--page 2")
    assert "opaque" not in more
    verbose = Style(is_verbose=True, with_dates=True, next_page=3)
    heading, line, _, more = terminal(
        Answer((hit(match=1.5),), {}, next_cursor="x", left_out=1), verbose
    )
    assert heading.split() == ["#", "relevance", "similarity", "match", "date", "path"]
    assert line.split() == ["1", "-", "0.300", "+1.50", "no", "date", "/photos/a.jpg"]
    assert more.endswith("--page 3")
    assert terminal(Answer((), {})) == []


def test_passages_stand_below_pictures(terminal):
    passage = hit(2, "/notes.txt", modality=Modality.TEXT, text="word " * 60)
    lines = terminal(Answer((hit(), passage), {}), width=50)
    assert lines[2] == "Texts"
    assert all(cell_len(line) <= 50 for line in lines)
    assert lines[3].endswith("…")


@pytest.mark.parametrize("width", [40, 50, 80, 200])
def test_a_hit_is_one_line_of_a_terminal(terminal, width):
    path = "/home/ann/Pictures/2019-05 Paris and around/Île-de-France/图片 of the tower 0001.jpg"
    line = terminal(Answer((hit(path=path, relevance=1.0),), {}), width=width)[1]
    assert cell_len(line) <= width
    assert line.endswith("0001.jpg")


@given(st.text(), st.integers(4, 60))
def test_shortened_texts_fit(text, width):
    for shorten in (shorten_middle, shorten_end):
        shown = shorten(text, width)
        assert cell_len(shown) <= width
        assert shown == text or cell_len(text) > width


def test_the_name_survives_shortening():
    path = "/a/very/long/way/to/the/photo.jpg"
    assert shorten_middle(path, 20) == "/a/ver…the/photo.jpg"
    assert shorten_middle(path, 12) == "/…/photo.jpg"
    assert shorten_middle("x" * 30 + ".jpg", 12).endswith("x.jpg")


@pytest.mark.slow
def test_a_real_terminal_gets_links_and_a_pipe_does_not(indexed, run, picture_folder, tmp_path):
    program = [sys.executable, "-c", "from api.cli import main; main()"]
    command = [*program, "search", "a dog", "-k", "1"]
    surroundings = {**os.environ, "COLUMNS": "40", "LINES": "24"}
    piped = subprocess.run(command, check=True, capture_output=True, env=surroundings).stdout
    assert b"\x1b" not in piped
    assert str(picture_folder).encode() in piped
    for term, has_links in (("xterm-256color", True), ("dumb", False)):
        shown = in_terminal(command, surroundings | {"TERM": term})
        assert (b"\x1b]8;" in shown) == has_links
        assert b"relevance" in shown
        assert "…".encode() in shown


def in_terminal(command: list[str], surroundings: dict[str, str]) -> bytes:
    """Run a program whose standard output is a terminal, and return what it wrote there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=surroundings):
        os.close(theirs)
        shown = b""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                break
            shown += chunk
    os.close(ours)
    return shown


def test_links_are_not_for_files_of_other_machines(terminal, tmp_path):
    assert Path("/").as_uri() == "file:///"
    style = Style(are_here=False)
    assert "]8;" not in "".join(terminal(Answer((hit(),), {}), style))
