"""Sub-paths are normalised, and stand before addresses of one request alone."""

import pytest

from api.http.root_path import at_root_path, parse_root_path, using_root_path


@pytest.mark.parametrize(
    ("text", "path"),
    [("", ""), ("/", ""), ("photos", "/photos"), ("/photos/", "/photos"), ("/a/b.c", "/a/b.c")],
)
def test_a_sub_path_begins_with_a_slash_and_ends_without(text, path):
    assert parse_root_path(text) == path


@pytest.mark.parametrize(
    "text", ["/a/../b", "/.", "a b", "https://example.org", "/a//b", "/a?b", "/é"]
)
def test_what_is_no_path_of_an_address_is_refused(text):
    with pytest.raises(ValueError, match="not a path"):
        parse_root_path(text)


def test_addresses_have_the_sub_path_of_their_request():
    with using_root_path("/photos"):
        assert at_root_path("/v1") == "/photos/v1"
    assert at_root_path("/v1") == "/v1"
