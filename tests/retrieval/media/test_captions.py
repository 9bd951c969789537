"""Texts and JSON files of a shard become columns of the image that they are about."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.media import NO_METADATA, Metadata
from retrieval.media.captions import with_caption


def said(value, before=NO_METADATA):
    return with_caption(before, json.dumps(value).encode(), is_json=True).columns


def test_a_text_is_the_caption():
    found = with_caption(NO_METADATA, b"\xef\xbb\xbfa red boat\n", is_json=False)
    assert found.columns == {"caption": "a red boat"}
    assert with_caption(NO_METADATA, b" \n", is_json=False).columns is None


def test_fields_are_columns():
    assert said({"a": 1, "b": [1, "x", None, {"y": 1}], "c": {"d": 1}, "e": None, "f": True}) == {
        "a": 1,
        "b": [1, "x"],
        "f": True,
    }


def test_what_the_file_says_itself_counts():
    before = Metadata(columns={"rating": 5})
    assert said({"rating": 1, "url": "x"}, before) == {"rating": 5, "url": "x"}


@pytest.mark.parametrize("data", [b"[1]", b"3", b"{", b"\xff\xfe\x00"])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ValueError, match=r".+"):
        with_caption(NO_METADATA, data, is_json=True)


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_whatever_is_said_can_be_kept(value):
    data = json.dumps(value).encode()
    columns = with_caption(NO_METADATA, data, is_json=True).columns or {}
    written = json.dumps(columns, allow_nan=False, ensure_ascii=False).encode()
    assert b"\0" not in written
    assert len(columns) <= 100
