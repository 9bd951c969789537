"""Nothing that a file holds reaches a terminal or a log as a control character."""

import io
import logging
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st
from rich.text import Text

from api.cli.console import PrintableConsole
from api.printable import PrintableFormatter, escape_controls, one_line

TEXTS = st.text(st.one_of(st.characters(codec=None), st.sampled_from("\x1b[]0;\x07\x9b\x7f\u202e")))
TITLE = "\x1b]0;PWNED\x07\x1b[31mred \x9b2J \u202eexe.gpj"


def dangerous(text: str) -> set[str]:
    """Control characters but line feed and tab, surrogates, and changes of direction."""
    return {
        c
        for c in text
        if (unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t")
        or unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI"}
    }


@given(TEXTS)
@example(TITLE)
def test_whatever_is_printed_reaches_the_terminal_without_control_characters(text):
    shown = io.StringIO()
    console = PrintableConsole(file=shown, soft_wrap=True, highlight=False, force_terminal=False)
    console.print(text, markup=False)
    console.print(Text.assemble((text, "bold")))
    console.print(f"{text}: {text}", style="dim", markup=False)
    assert not dangerous(shown.getvalue())


def test_a_terminal_still_gets_colours_and_links():
    shown = io.StringIO()
    console = PrintableConsole(
        file=shown, force_terminal=True, color_system="standard", width=200, highlight=False
    )
    console.print("[bold]4 added[/bold]")
    console.print(Text(TITLE, style="link file:///a.jpg"))
    assert "\x1b[1m4 added\x1b[0m" in shown.getvalue()
    assert "file:///a.jpg" in shown.getvalue()
    assert "PWNED\x07" not in shown.getvalue()
    assert "\x1b]0" not in shown.getvalue()
    assert "\\x1b[31mred" in shown.getvalue()


@given(TEXTS)
@example(TITLE)
def test_escaping_leaves_nothing_to_escape(text):
    escaped = escape_controls(text)
    assert not dangerous(escaped)
    assert escape_controls(escaped) == escaped
    assert one_line(text).isprintable()


def test_scripts_and_emoji_stay():
    said = "héllo 狗 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d💻\tend\n"
    assert escape_controls(said) == said


def test_a_log_line_is_one_line_and_its_traceback_keeps_its_own():
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("GET %s failed", "/a\nERROR: forged \x1b[2J")
    assert shown.getvalue() == "WARNING: GET /a\\nERROR: forged \\x1b[2J failed\n"
    logger.error("failed", exc_info=ValueError(TITLE))
    assert not dangerous(shown.getvalue())
    assert shown.getvalue().count("\n") == 3
