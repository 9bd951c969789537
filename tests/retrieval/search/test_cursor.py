import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.search.cursor import Cursor, digest_of
from retrieval.search.query import ImagePart, ItemPart, Mode, Query, TextPart

DIGEST = b"8 bytes."

cursors = st.builds(
    Cursor,
    digest=st.just(DIGEST),
    row_limit=st.integers(0, 2**40),
    mode=st.sampled_from([Mode.VECTOR, Mode.TEXT, Mode.HYBRID]),
    reranked_count=st.integers(0, 10_000),
    seen_ids=st.frozensets(st.integers(1, 2**62), max_size=50),
)


@given(cursors)
def test_what_is_encoded_is_decoded(cursor):
    text = cursor.encode()
    assert Cursor.decode(text, DIGEST) == cursor
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@given(cursors, st.data())
def test_a_damaged_cursor_is_refused(cursor, data):
    content = bytearray(base64.urlsafe_b64decode(cursor.encode() + "=="))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    damaged = base64.urlsafe_b64encode(bytes(content)).decode().rstrip("=")
    with pytest.raises(UsageError, match="cursor"):
        Cursor.decode(damaged, DIGEST)


@given(st.text(max_size=80))
def test_a_made_up_cursor_is_refused(text):
    with pytest.raises(UsageError, match="Invalid cursor"):
        Cursor.decode(text, DIGEST)


def test_a_cursor_too_long_to_be_one_is_not_decoded():
    with pytest.raises(UsageError, match="Invalid cursor"):
        Cursor.decode("A" * 10_000_000, DIGEST)


def test_a_cursor_of_many_hits_is_short():
    given_ids = frozenset(range(1, 7001, 14))
    assert len(Cursor(DIGEST, 7000, Mode.VECTOR, 50, given_ids).encode()) < 750


def test_every_difference_of_queries_is_told():
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    text = (TextPart("12"),)
    queries = [
        Query(text),
        Query((TextPart("12", 0.5),)),
        Query((TextPart("12"), TextPart("12"))),
        Query((ItemPart(12),)),
        Query((ImagePart(red),)),
        Query((ImagePart(blue),)),
        Query(text, where=Filter(path="*.jpg")),
        Query(text, where=Filter(path="*.png")),
        Query(text, mode=Mode.TEXT),
        Query(text, min_relevance=0.5),
        Query(text, group_by_file=True),
        Query(text, diversity=0.5),
    ]
    digests = [digest_of(query, "space") for query in queries] + [digest_of(Query(text), "other")]
    assert len(set(digests)) == len(digests)
    assert digest_of(Query(text, k=3, cursor="x"), "space") == digests[0]
