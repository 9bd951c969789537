from pathlib import Path

import pytest

from indexer.sources import SourceOptions, choose_sources, parse_changes, source_above
from retrieval.errors import NotFoundError, UsageError
from retrieval.library import Library, create_library
from retrieval.media import MediaKind


@pytest.fixture
def library(tmp_path, tiny_encoder) -> Library:
    return create_library(tmp_path / "library", tiny_encoder.space)


def remember(library: Library, sources: dict[str, SourceOptions]) -> None:
    with library.catalog.transaction() as transaction:
        transaction.add_sources({path: options.to_json() for path, options in sources.items()})


def test_only_what_was_chosen_is_remembered():
    assert SourceOptions().to_json() == {}
    chosen = SourceOptions(hidden=True, kinds=frozenset({MediaKind.TEXT}), text_column="en")
    assert chosen.to_json() == {"hidden": True, "kinds": ["text"], "text_column": "en"}
    assert SourceOptions.from_json(chosen.to_json()) == chosen


def test_options_that_were_not_given_change_nothing():
    assert parse_changes({"hidden": None, "follow": False}) == {"follow": False}
    assert parse_changes({"kinds": "image, video"}) == {
        "kinds": frozenset({MediaKind.IMAGE, MediaKind.VIDEO})
    }
    with pytest.raises(UsageError, match="There is no kind 'pictures'; there are: image"):
        parse_changes({"kinds": "pictures"})


def test_a_source_keeps_its_options_until_they_change(library, tmp_path):
    folder = str(tmp_path)
    remember(library, {folder: SourceOptions(hidden=True, text_column="en")})
    assert choose_sources(library, [tmp_path]) == {
        folder: SourceOptions(hidden=True, text_column="en")
    }
    assert choose_sources(library, [], {"hidden": False}) == {
        folder: SourceOptions(text_column="en")
    }


def test_a_path_below_a_source_is_read_like_it(library, tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    remember(
        library,
        {
            str(tmp_path): SourceOptions(hidden=True),
            str(tmp_path / "a"): SourceOptions(follow=True),
        },
    )
    assert choose_sources(library, [below]) == {str(below): SourceOptions(follow=True)}


def test_paths_below_another_one_are_left_to_it(library, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a-b").mkdir()
    chosen = choose_sources(library, [tmp_path / "a", tmp_path / "a-b", tmp_path / "a" / "."])
    assert set(chosen) == {str(tmp_path / "a"), str(tmp_path / "a-b")}


def test_a_missing_path_is_refused_but_a_missing_source_is_not(library, tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(NotFoundError, match="nothing at"):
        choose_sources(library, [missing])
    remember(library, {missing: SourceOptions()})
    assert list(choose_sources(library, [])) == [missing]


def test_the_nearest_source_above_a_path_is_its_own():
    sources = ["/a", "/a/b", "/a/bc"]
    assert source_above("/a/b/c.jpg", sources) == "/a/b"
    assert source_above("/a/bcd.jpg", sources) == "/a"
    assert source_above("/a/bc", sources) == "/a/bc"


def test_a_home_directory_is_spelled_out(library, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(choose_sources(library, [Path("~")])) == [str(tmp_path)]
