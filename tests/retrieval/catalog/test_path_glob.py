import os
import time
import unicodedata
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval.catalog.path_glob import literal_prefix, matches, split_pattern


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.jpg", "/a/b.jpg", True),
        ("*.jpg", "/a.jpg", True),
        ("*.jpg", "/a.jpeg", False),
        ("b*", "/a/b/c", False),
        ("/*.jpg", "/a/b.jpg", False),
        ("/**.jpg", "/a/b.jpg", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab/c", False),
        ("/a/**/c", "/a/c", True),
        ("/a/**/c", "/a/x/y/c", True),
        ("/a/**/c", "/ax/c", False),
        ("/a/**/**/c", "/a/c", True),
        ("**/c", "/c", True),
        ("a/*/c", "/x/a/b/c", True),
        ("a/*/c", "/x/a/b/b/c", False),
        ("a/*/c", "/xa/b/c", False),
        ("/a**z", "/a/b/z", True),
        ("/**a*b/c**", "/x/a/ab/c/d", True),
        ("**a*b*/e", "/ab/d/aXb/e", True),
        ("/?.jpg", "/雪.jpg", True),
        ("/??.jpg", "/雪.jpg", False),
        ("/?.jpg", os.fsdecode(b"/\xff.jpg"), True),
        ("/caf\u00e9", "/cafe\u0301", True),
        ("/cafe\u0301", "/caf\u00e9", True),
        ("/a?b", "/a/b", False),
        ("/a[!x]b", "/a/b", False),
        ("/a[.-0]b", "/a/b", False),
        ("/[a-c]", "/b", True),
        ("/[!a-c]", "/b", False),
        ("/[雪-雫]", "/雪", True),
        ("/[z-a]", "/z", False),
        ("/[]]", "/]", True),
        ("/[!]]", "/]", False),
        ("/[*]", "/*", True),
        ("/[*]", "/a", False),
        ("/[a-]", "/-", True),
        ("/[^a]", "/^", True),
        ("/[a", "/[a", True),
        ("/a.b", "/axb", False),
        ("/(a|b)+$", "/(a|b)+$", True),
        ("/a\\*", "/a\\b", True),
        ("/new\n*", "/new\nline\n", True),
        ("/A", "/a", False),
    ],
)
def test_paths_match(pattern, path, expected):
    assert matches(pattern, os.fsencode(path)) is expected


ALPHABET = "ab/*?"


def oracle(pattern: str, path: str) -> bool:
    """Tries every length of every star; the definition, without `[...]`."""
    if not pattern.startswith("/"):
        starts = [place for place, character in enumerate(path) if character == "/"]
        return any(oracle(f"/{pattern}", path[start:]) for start in starts)

    @cache
    def match(p: int, q: int) -> bool:
        """Whether the pattern from p on matches the path from q on."""
        if p == len(pattern):
            return q == len(path)
        if pattern[p] != "*":
            is_same = path[q : q + 1] not in {"", "/"} if pattern[p] == "?" else False
            return (is_same or pattern[p] == path[q : q + 1]) and match(p + 1, q + 1)
        end = p + len(pattern[p:]) - len(pattern[p:].lstrip("*"))
        stops = range(q, len(path) + 1)
        if end - p == 1:
            return any(match(end, stop) for stop in stops if "/" not in path[q:stop])
        is_folders = pattern[p - 1] == "/" and pattern[end : end + 1] == "/"
        return any(match(end, stop) for stop in stops) or (is_folders and match(end + 1, q))

    return match(0, 0)


@given(
    st.text(ALPHABET, min_size=1, max_size=9),
    st.text("ab/", max_size=12).map(lambda text: f"/{text}"),
)
@example("/**a*b**b*a", "/a/abab/ba")
def test_matching_is_as_defined(pattern, path):
    assert matches(pattern, path.encode()) is oracle(pattern, path)


@given(st.text(min_size=1, max_size=8), st.text(max_size=8).map(lambda text: f"/{text}"))
@example("/K", "/\u212a")
def test_any_pattern_can_be_asked_and_its_prefix_is_that_of_all_that_match(pattern, path):
    path = path.encode(errors="replace")
    if matches(pattern, path):
        assert path.startswith(literal_prefix(pattern).encode())
    literal = "".join(f"[{c}]" if c in "*?[" else c for c in f"/{pattern}")
    wanted = unicodedata.normalize("NFD", f"/{pattern}").encode(errors="surrogateescape")
    assert matches(literal, wanted)


def test_no_pattern_takes_long():
    start = time.perf_counter()
    assert not matches("*a" * 1000 + "b", b"/" + b"a" * 1000)
    assert not matches("**a" * 1000 + "b", b"/" + b"a/" * 500)
    assert not matches("**a*a" * 500 + "/b", b"/" + b"a/a" * 300)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("pattern", "folder", "name", "is_exact"),
    [
        ("*.jpg", "", "*.jpg", True),
        ("2019/**", "2019/**", "*", True),
        ("/a/**/b*/*", "/a/**/b*/", "*", True),
        ("IMG_*", "", "IMG_*", False),
        ("a/*7?.jpg", "a/", "*7*.jpg", False),
        ("*é.jpg", "", "*.jpg", False),
        ("*K", "", "*", False),
    ],
)
def test_a_pattern_is_split_into_folder_and_name(pattern, folder, name, is_exact):
    assert split_pattern(pattern) == (folder, name, is_exact)


@pytest.mark.parametrize("pattern", ["[ab].jpg", "a**b", "a/b**", "a/"])
def test_other_patterns_are_not_split(pattern):
    assert split_pattern(pattern) is None


def test_globs_match_uris():
    path = b"s3://bucket/album/a.jpg"
    for pattern in ("s3://bucket/*/*.jpg", "s3://bucket/**", "album/*.jpg", "a.jpg", "**/a.jpg"):
        assert matches(pattern, path), pattern
    for pattern in ("s3://other/**", "s3://bucket/*.jpg", "/bucket/**"):
        assert not matches(pattern, path), pattern
