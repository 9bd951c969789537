"""A look at some paths finds what a walk of their whole source finds there, and no more."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.partial_scan import PartialScan, narrowed
from indexer.scan import EmptyRoot, PassedOver, Unlisted, walk
from indexer.sources import SourceOptions
from indexer.write_stability import WriteStability
from retrieval.catalog.paths import is_at_or_below

FILES = [
    "a.png",
    "sub/b.png",
    "sub/.c.png",
    "sub/note.xyz",
    ".hidden/x/a.png",
    "lib/a.png",
    "lib/library.toml",
    "lib/spaces/x",
    "no/x/a.png",
]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".mmsearchignore").write_text("no/\n")
    (folder / "link").symlink_to(folder / "sub")
    (folder / "link.png").symlink_to(folder / "a.png")
    (folder / "broken.png").symlink_to(folder / "nowhere")
    return folder


def look_at(folder, *paths, options=SourceOptions()):  # noqa: B008 - frozen
    root = str(folder)
    return list(
        PartialScan({root: options}, [*map(str, paths)], WriteStability()).walk(root, options)
    )


@pytest.mark.parametrize(
    "options", [SourceOptions(), SourceOptions(hidden=True), SourceOptions(ignore_files=False)]
)
def test_path_gives_what_a_walk_of_the_source_gives_there(folder, options):
    everything = [e for e in walk(str(folder), options) if not isinstance(e, PassedOver)]
    for path in [folder, folder / "link" / "b.png", *folder.rglob("*")]:
        expected = [entry for entry in everything if f"{entry.path}/".startswith(f"{path}/")]
        found = look_at(folder, path, options=options)
        assert [e for e in found if not isinstance(e, PassedOver)] == expected, path


def test_path_of_another_source_gives_nothing(folder, tmp_path):
    (tmp_path / "photos-2").mkdir()
    (tmp_path / "photos-2" / "a.png").touch()
    assert look_at(folder, tmp_path / "photos-2", tmp_path / "photos-2" / "a.png") == []


def test_path_that_is_gone_gives_nothing(folder):
    assert look_at(folder, folder / "gone.png", folder / "gone" / "x.png") == []


def test_source_that_is_gone_hides_nothing_of_what_is_known(tmp_path):
    source = tmp_path / "unmounted"
    assert look_at(source, source / "a.png") == [Unlisted(str(source), "is not there")]


def test_empty_sources_and_folders_are_told_apart(folder, tmp_path):
    (folder / "empty").mkdir()
    (tmp_path / "source").mkdir()
    assert look_at(folder, folder / "empty") == [EmptyRoot(f"{folder}/empty", nested=True)]
    assert look_at(tmp_path / "source", tmp_path / "source") == [EmptyRoot(f"{tmp_path}/source")]


# "a-b" sorts between "a" and "a/b".
ways = st.lists(st.sampled_from(["s", "t", "a", "a-b", "b"]), min_size=1, max_size=4)
places = st.lists(ways.map(lambda way: os.path.join(os.sep, *way)), max_size=12)  # noqa: PTH118


@given(places)
@example(["/s/a", "/s/a-b", "/s/a/b"])
def test_narrowed_paths_cover_all_and_none_lies_below_another(paths):
    sources = {f"{os.sep}s": SourceOptions(), f"{os.sep}t": SourceOptions()}
    kept = narrowed(paths, sources)
    in_a_source = {path for path in paths if any(is_at_or_below(path, root) for root in sources)}
    assert set(kept) <= in_a_source
    for path in in_a_source:
        assert sum(is_at_or_below(path, place) for place in kept) == 1


@pytest.mark.parametrize(
    ("options", "count", "is_narrow"),
    [
        (SourceOptions(), 100, True),
        (SourceOptions(), 101, False),
        (SourceOptions(follow=True), 1, False),
        (SourceOptions(one_file_system=True), 1, False),
    ],
)
def test_whole_source_is_looked_at_where_paths_do_not_tell_enough(options, count, is_narrow):
    paths = [os.path.join(os.sep, "s", f"{number}.png") for number in range(count)]  # noqa: PTH118
    kept = narrowed(paths, {f"{os.sep}s": options, f"{os.sep}t": options})
    assert sorted(kept) == (sorted(paths) if is_narrow else [f"{os.sep}s"])
