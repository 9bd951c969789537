import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog.paths import (
    below,
    is_at_or_below,
    is_gone,
    is_there,
    relative_to,
    reroot,
    separator_of,
)

names = st.text("ab.é雪", min_size=1, max_size=3).filter(lambda name: set(name) != {"."})
tails = st.lists(names, max_size=3)


@given(st.sampled_from(["/", "/p", "/p/q"]), st.sampled_from(["/", "/n", "/p/q/r"]), tails)
def test_a_path_is_rerooted_and_back(old, new, tail):
    path = below(old) + "/".join(tail) if tail else old
    moved = reroot(path, old, new)
    assert is_at_or_below(moved, new)
    assert relative_to(moved, new) == relative_to(path, old) == "/".join(tail)
    assert reroot(moved, new, old) == path


@given(tails.filter(bool))
def test_drive_letters_and_shares_of_windows(tail):
    joined = "\\".join(tail)
    assert reroot(f"D:\\Photos\\{joined}", "D:\\Photos", "E:\\Photos") == f"E:\\Photos\\{joined}"
    assert reroot(f"D:\\{joined}", "D:\\", "E:\\") == f"E:\\{joined}"
    assert reroot(f"D:\\{joined}", "D:", "/media/d") == f"/media/d/{'/'.join(tail)}"
    share = "\\\\nas\\photos"
    assert reroot(f"{share}\\{joined}", share, "/mnt") == f"/mnt/{'/'.join(tail)}"
    assert not is_at_or_below(f"D:\\Photos2\\{joined}", "D:\\Photos")
    assert separator_of("/C:\\x") == "/"


def test_a_name_that_begins_like_a_folder_is_not_below_it():
    assert is_at_or_below("/a/b", "/a")
    assert is_at_or_below("/a", "/a")
    assert is_at_or_below("/a", "/")
    assert not is_at_or_below("/ab", "/a")


def test_an_empty_folder_counts_as_not_there(tmp_path):
    assert not is_there(str(tmp_path))
    assert not is_there(str(tmp_path / "none"))
    file = tmp_path / "file"
    file.touch()
    assert is_there(str(tmp_path))
    assert is_there(str(file))
    assert not is_there(str(file / "below"))
    assert not is_there("D:\\Photos")


def test_what_cannot_be_read_is_not_said_to_be_gone(tmp_path, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", fail)
    monkeypatch.setattr(os, "lstat", fail)
    assert is_there(str(tmp_path / "none"))
    assert not is_gone(str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["file", "folder", "broken symlink"])
def test_whatever_has_a_name_is_not_gone(tmp_path, kind):
    path = tmp_path / "x"
    assert is_gone(str(path))
    {"file": path.touch, "folder": path.mkdir, "broken symlink": lambda: path.symlink_to("n")}[
        kind
    ]()
    assert not is_gone(str(path))
    assert is_gone(str(path / "below"))


def test_uris_are_paths_below_each_other_and_their_servers_are_not_asked():
    assert below("s3://bucket") == "s3://bucket/"
    assert reroot("s3://bucket/a/b.jpg", "s3://bucket/a", "/photos") == "/photos/b.jpg"
    assert reroot("/photos/b.jpg", "/photos", "s3://bucket/a") == "s3://bucket/a/b.jpg"
    assert is_there("https://127.0.0.1:9/a.jpg")
    assert not is_gone("https://127.0.0.1:9/a.jpg")


def test_a_member_is_there_as_long_as_its_shard(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"")
    path = str(tmp_path / "0.tar" / "a.jpg")
    assert (is_there(path), is_gone(path)) == (True, False)
    (tmp_path / "0.tar").unlink()
    assert (is_there(path), is_gone(path)) == (False, True)
