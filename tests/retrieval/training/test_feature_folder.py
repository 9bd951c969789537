from pathlib import Path

import numpy as np

from retrieval.training.feature_folder import FeatureFolder


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, "kind", ["a", "b"])
    assert folder.done == 0
    rows = folder.open("rows.f16", (4, 3))
    rows[:2] = [[1, 2, 3], [4, 5, 6]]
    folder.commit(2)
    again = FeatureFolder(tmp_path, "kind", ["a", "b"])
    assert again.path == folder.path
    assert again.done == 2
    read = again.open("rows.f16", (4, 3))
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read[:2], [[1, 2, 3], [4, 5, 6]])
    assert sorted(file.name for file in folder.path.iterdir()) == ["rows.f16", "rows.json"]


def test_an_array_grows_and_keeps_its_rows(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, "kind", ["a"])
    few = folder.open("rows.f16", (2, 3))
    few[:] = 7
    folder.commit(2)
    more = folder.open("rows.f16", (5, 3))
    np.testing.assert_array_equal(more[:2], 7)
    more[2:] = 8
    folder.commit(5)
    np.testing.assert_array_equal(folder.open("rows.f16", (5, 3))[:, 0], [7, 7, 8, 8, 8])


def test_fewer_rows_than_there_are_leave_the_others_alone(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, "kind", ["a"])
    rows = folder.open("rows.f16", (3, 2))
    rows[:] = 9
    folder.commit(3)
    del rows
    np.testing.assert_array_equal(folder.open("rows.f16", (1, 2)), 9)
    np.testing.assert_array_equal(folder.open("rows.f16", (3, 2)), 9)


def test_everything_it_depends_on_names_the_folder(tmp_path: Path) -> None:
    keys = [("kind", ["a", "b"]), ("kind", ["b", "a"]), ("kind", ["a"]), ("other", ["a", "b"])]
    paths = {FeatureFolder(tmp_path, kind, key).path for kind, key in keys}
    assert len(paths) == 4
    assert all(path.parent == tmp_path for path in paths)
