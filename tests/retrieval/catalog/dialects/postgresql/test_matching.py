"""Paths and texts are compared by the server exactly as by Python."""

import os
import unicodedata

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval.catalog.column_condition import folded
from retrieval.catalog.dialects.postgresql.dialect import PostgreSQL
from retrieval.catalog.dialects.postgresql.matching import FOLDED, PATH_TEXT
from retrieval.catalog.path_glob import matches

pytestmark = pytest.mark.slow

PIECES = ["*", "**", "/", "?", "[", "]", "!", "-", "^", "\\", ".", "(a|b)+$", "[[:alpha:]]", "{2}",
          "a", "b", "K", "\u212a", "é", "e\u0301", "雪", "\n", "[!a-c]", "[]]", "[a-é]", "[\\d]",
          "\udcff", "😀"]  # fmt: skip
NAMES = st.binary(max_size=6).map(lambda name: name.replace(b"\0", b"")) | st.lists(
    st.sampled_from(PIECES), max_size=5
).map(lambda pieces: os.fsencode("".join(pieces)))


@pytest.fixture(scope="module")
def connection(new_schema):
    dialect = PostgreSQL(sa.make_url(new_schema()))
    with dialect.connect(write=True) as connection:
        yield connection
    dialect.close()


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(PIECES) | st.characters(exclude_characters="\0"), max_size=6),
    st.lists(NAMES, min_size=1, max_size=3),
)
@example(["["], [b"["])
@example(["[", "z", "-", "a", "]"], [b"z"])
@example(["[!", "]", "]"], [b"a"])
def test_a_glob_matches_what_it_matches_in_python(connection, pattern, names):
    pattern, path = "".join(pattern), b"/" + b"/".join(names)
    condition = PostgreSQL.path_matches(sa.literal(path, sa.LargeBinary), pattern)
    assert connection.scalar(sa.select(condition)) is matches(pattern, path)


@settings(max_examples=300)
@given(st.binary().map(lambda path: path.replace(b"\0", b"")))
@example(b"\xed\xa0\x80")  # a surrogate
@example(b"\xf4\x90\x80\x80")  # past the last character
@example(b"\xc0\xaf\xe2\x82/\xe2\x82\xac\xf0\x9f\x98\x80")
def test_a_path_becomes_the_text_that_python_makes_of_it(connection, path):
    query = sa.select(getattr(sa.func, PATH_TEXT)(sa.literal(path, sa.LargeBinary)))
    wanted = unicodedata.normalize("NFC", os.fsdecode(path))
    marks = {0xDC00 + byte: 0x10DC00 + byte for byte in range(0x80, 0x100)}
    assert connection.scalar(query) in {wanted.translate(marks), "" if not path else None}


@settings(max_examples=300)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs", "Cn"))))
@example("STRASSE ẞ ŉ ﬃ İ Σς ᾳ ǰ Ა ꭰ")
def test_case_is_folded_as_in_python(connection, text):
    folding = sa.select(getattr(sa.func, FOLDED)(sa.literal(text, sa.Text)))
    assert connection.scalar(folding) == folded(text)


def test_every_character_is_folded_as_in_python(connection):
    """In one text a block, each beside a slash."""
    for first in range(1, 0x20000, 0x800):
        characters = [chr(code) for code in range(first, first + 0x800)]
        known = [c for c in characters if unicodedata.category(c) not in {"Cs", "Cn"}]
        text = "/".join(known)
        query = sa.select(getattr(sa.func, FOLDED)(sa.literal(text, sa.Text)))
        assert connection.scalar(query) == folded(text), hex(first)


def test_names_are_compared_by_bytes(connection):
    def is_so(path, pattern):
        condition = PostgreSQL.name_matches(sa.literal(path, sa.LargeBinary), pattern)
        return connection.scalar(sa.select(condition))

    assert is_so(b"/a/\xff.jpg", "*.jpg")
    assert not is_so(b"/a/x.JPG", "*.jpg")
    assert is_so(b"/a/100%_\\.jpg", "100%_\\*")
    assert not is_so(b"/a/100xx.jpg", "100%_*")
    assert not is_so(b"/a/xb", "b*")
    assert is_so(b"/a/b/c", "b*c")  # stars match slashes here, too
