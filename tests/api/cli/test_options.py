import io
import json
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli import console
from api.cli.console import PrintableConsole
from api.cli.options import complain, parse_size, print_json
from retrieval.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("800000", 800_000),
        ("12B", 12),
        ("1kB", 1000),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        (" 8GB ", 8_000_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.001kB", 1),
        ("2TB", 2_000_000_000_000),
    ],
)
def test_sizes_are_decimal(text, size):
    assert parse_size(text) == size


NO_SIZES = (
    *("", "MB", "-1", "-5GB", "1.5", "0.5B", "1,5GB", "1_000", "1e9", ".5GB", "5.GB", "8GiB"),
    *("8G", "8 GB GB", "8  GB", "much", "nan", "inf", "0x10", "٣GB", "9" * 16, "8\nGB"),
)


@pytest.mark.parametrize("text", NO_SIZES)
def test_anything_else_is_an_error_that_shows_how(text):
    with pytest.raises(UsageError, match=r"is not a size\. Write .* such as 500MB"):
        parse_size(text)


@given(st.integers(0, 10**15 - 1), st.sampled_from(["", "B", "kB", "KB", "MB", "GB", "TB"]))
def test_whole_numbers_of_any_unit(number, unit):
    exponent = {"k": 3, "K": 3, "M": 6, "G": 9, "T": 12}.get(unit[:1], 0)
    assert parse_size(f"{number}{unit}") == number * 10**exponent


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_usage_error(text):
    with suppress(UsageError):
        assert parse_size(text) >= 0


def test_messages_are_wrapped_between_words_of_terminals_alone(monkeypatch):
    message = "There is no library here. Create one with `mmsearch index PATH...`."
    for is_terminal in (True, False):
        file = io.StringIO()
        shown = PrintableConsole(
            file=file, force_terminal=is_terminal, width=30, highlight=False, soft_wrap=True
        )
        monkeypatch.setattr(console, "err", shown)
        complain(message)
        lines = file.getvalue().splitlines()
        assert [word for line in lines for word in line.split()] == message.split()
        assert all(len(line.rstrip()) <= 30 for line in lines) == is_terminal


def test_json_has_letters_as_they_are_and_no_commands_to_a_terminal(capsys, monkeypatch):
    value = {"said": '两只狗 "é" 🐕', "name": "a\x1b[31m\x7f\x9b\u202e\u2028\udce9.png"}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert '两只狗 \\"é\\" 🐕' in printed
    assert all(character.isprintable() or character == "\n" for character in printed)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw := io.BytesIO(), encoding="gbk"))
    print_json(value, indent=None)
    assert json.loads(raw.getvalue().decode("ascii")) == value
