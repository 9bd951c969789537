import importlib.util
import sys

import pytest

from benchmarks.datasets import load_dataset
from retrieval.errors import NotFoundError, UsageError
from retrieval.media.images import read_image

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)


def write(path, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return f"parquet:{path}"


@needs_pyarrow
def test_images_by_name(tmp_path, add_images):
    add_images("a.jpg", "b.jpg")
    specification = write(
        tmp_path / "t.parquet",
        image=["a.jpg", "b.jpg", "gone.jpg", None],
        caption=[["a dog", "a hound"], [None], ["x"], ["y"]],
        split=["test"] * 4,
    )
    dataset = load_dataset(specification)
    assert dataset.texts == {"a.jpg#0": "a dog", "a.jpg#1": "a hound"}
    assert list(dataset.images) == ["a.jpg", "b.jpg"]
    assert [(str(problem.kind), problem.where) for problem in dataset.problems] == [
        ("empty text", "t.parquet: row 2"),
        ("missing image", "t.parquet: row 4"),
        ("image without text", "b.jpg"),
        ("missing image", "gone.jpg"),
    ]
    with pytest.raises(UsageError, match=r"no split 'val'.*test \(4\)"):
        load_dataset(specification, "val")


@needs_pyarrow
def test_embedded_images_are_unpacked_once(tmp_path, add_images):
    add_images("a.jpg", "b.jpg")
    contents = [(tmp_path / name).read_bytes() for name in ("a.jpg", "b.jpg")]
    records = [{"bytes": content, "path": "some.jpeg"} for content in contents]
    write(tmp_path / "shards" / "1.parquet", image=records[:1], text=["a dog"])
    write(tmp_path / "shards" / "2.parquet", image=records, text=["a hound", "a cat"])
    specification = f"parquet:{tmp_path}/shards"
    with pytest.raises(UsageError, match=r"\?images=FOLDER"):
        load_dataset(specification)
    dataset = load_dataset(f"{specification}?images={tmp_path}/unpacked")
    assert [path.read_bytes() for path in dataset.images.values()] == contents
    assert all(path.suffix == ".jpeg" for path in dataset.images.values())
    assert list(dataset.texts.values()) == ["a dog", "a hound", "a cat"]
    assert all(read_image(path) for path in dataset.images.values())

    plain = write(tmp_path / "plain.parquet", image=contents, text=["a", "b"])
    assert len(load_dataset(f"{plain}?images={tmp_path}/unpacked").images) == 2


@needs_pyarrow
def test_malformed_files_are_refused(tmp_path, add_images):
    add_images("a.jpg")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"not parquet at all")
    with pytest.raises(UsageError, match=r"broken\.parquet: not Parquet"):
        load_dataset(f"parquet:{broken}")
    with pytest.raises(UsageError, match="no column 'text'"):
        load_dataset(write(tmp_path / "a.parquet", image=["a.jpg"], words=["x"]))
    with pytest.raises(UsageError, match="a text is int"):
        load_dataset(write(tmp_path / "b.parquet", image=["a.jpg"], text=[1]))
    with pytest.raises(UsageError, match="an image is int"):
        load_dataset(write(tmp_path / "c.parquet", image=[1], text=["x"]))
    with pytest.raises(NotFoundError, match="neither a Parquet file"):
        load_dataset(f"parquet:{tmp_path / 'none.parquet'}")


def test_without_pyarrow_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"mmsearch\[parquet\]"):
        load_dataset(f"parquet:{tmp_path}")
