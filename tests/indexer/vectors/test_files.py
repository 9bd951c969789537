"""Vectors in files: what is written is read, and what others write."""

import json
import pickle

import numpy as np
import pytest

from indexer.vectors.add import GivenItem, add_vectors
from indexer.vectors.files import find_vectors, read_vectors, sidecar_of, write_vectors
from indexer.vectors.stored import stored_vectors
from retrieval.encoders.given import given_space
from retrieval.errors import NotFoundError, UsageError
from retrieval.filters import Filter
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.search.joint import JointEngine
from retrieval.search.query import Query, VectorPart

SPACE = given_space("things", 8)


@pytest.fixture
def library(tmp_path, photos):
    library = create_library(tmp_path / "library", SPACE)
    generator = np.random.default_rng(0)
    items = [
        GivenItem(
            f"item-{n}",
            modality=Modality.TEXT if n % 3 == 0 else Modality.IMAGE,
            text=f"text ä {n}" if n % 3 == 0 else None,
            columns={"n": n, "tags": ["a", "b"]} if n % 2 else None,
        )
        for n in range(40)
    ]
    items[1] = GivenItem("", path=str(photos["cat"]), columns={"n": 1, "who": "Chelsea"})
    add_vectors(library, SPACE, [(items, generator.normal(size=(40, 8)))])
    yield library
    library.close()


def told(library, space):
    """All that is known of each item, by path, and its vector."""
    return {
        record["path"]: ({**record, "id": None, "path": None}, vector)
        for batch in stored_vectors(library, space, batch_rows=7)
        for record, vector in zip(batch.records(), batch.vectors, strict=True)
    }


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".lance"])
@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_what_is_exported_and_imported_answers_the_same(library, tmp_path, ending, batch_rows):
    if ending != ".npy":
        pytest.importorskip("lance" if ending == ".lance" else "pyarrow")
    file = tmp_path / f"vectors{ending}"
    batches = stored_vectors(library, SPACE, batch_rows=batch_rows)
    assert write_vectors(file, batches, SPACE) == 40
    found = find_vectors(file)
    assert found.dimension == 8
    assert found.space == (None if ending == ".npy" else SPACE.id)
    other = create_library(tmp_path / "other", SPACE)
    added = add_vectors(other, SPACE, read_vectors(found, batch_rows=batch_rows))
    assert (added.count, added.skipped) == (40, [])
    before, after = told(library, SPACE), told(other, SPACE)
    assert {path: record for path, (record, _) in before.items()} == {
        path: record for path, (record, _) in after.items()
    }
    for path, (_, vector) in before.items():
        np.testing.assert_allclose(after[path][1], vector, atol=1e-3)
    engines = JointEngine(library), JointEngine(other)
    generator = np.random.default_rng(1)
    for modality in (Modality.IMAGE, Modality.TEXT):
        for where in (None, Filter.model_validate({"columns": {"n": {"max": 20}}})):
            query = VectorPart(generator.normal(size=8))
            asked = Query((query,), k=40, modality=modality, where=where)
            scores = [
                {hit.path: hit.similarity for hit in engine.search(asked)} for engine in engines
            ]
            assert scores[0] == pytest.approx(scores[1], abs=2e-3)
            assert scores[0]
    other.close()


def test_an_array_is_what_numpy_reads(library, tmp_path):
    file = tmp_path / "vectors.npy"
    write_vectors(file, stored_vectors(library, SPACE, batch_rows=9), SPACE)
    array = np.load(file, allow_pickle=False)
    assert (array.shape, array.dtype) == ((40, 8), np.float32)
    lines = sidecar_of(file).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(1, 41))


def test_folders_of_clip_retrieval_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float16)
    for folder in ("img_emb", "metadata"):
        (tmp_path / folder).mkdir()
    for number, part in enumerate((vectors[:3], vectors[3:])):
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", part)
        paths = [f"/no/such/{number}/{n}.jpg" for n in range(len(part))]
        captions = ["a dog", None, "a cat"][: len(part)]
        table = pa.table({"image_path": paths, "caption": captions})
        pq.write_table(table, tmp_path / "metadata" / f"metadata_{number}.parquet")
    found = find_vectors(tmp_path)
    batches = list(read_vectors(found))
    items = [item for items, _ in batches for item in items]
    assert [item.path for item in items][2:4] == ["/no/such/0/2.jpg", "/no/such/1/0.jpg"]
    assert [item.columns for item in items][:2] == [{"caption": "a dog"}, None]
    np.testing.assert_array_equal(np.concatenate([part for _, part in batches]), vectors)
    (tmp_path / "metadata" / "metadata_1.parquet").unlink()
    with pytest.raises(UsageError, match="2 files of vectors and 1 of metadata"):
        find_vectors(tmp_path)


def test_folders_of_autofaiss_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "a.npy", vectors[:2])
    np.save(tmp_path / "arrays" / "b.npy", vectors[2:])
    batches = list(read_vectors(find_vectors(tmp_path / "arrays")))
    assert [item.id for items, _ in batches for item in items] == ["0", "1", "2", "3", "4"]
    (tmp_path / "tables").mkdir()
    rows = [*vectors[:4].tolist(), None]
    table = pa.table({"id": [f"x{n}" for n in range(5)], "embedding": rows, "price": range(5)})
    pq.write_table(table, tmp_path / "tables" / "a.parquet")
    [(items, read)] = read_vectors(find_vectors(tmp_path / "tables"))
    assert [item.id for item in items] == ["x0", "x1", "x2", "x3", "x4"]
    assert items[3].columns == {"price": 3}
    np.testing.assert_array_equal(read[:4], vectors[:4])
    assert np.isnan(read[4]).all()  # and so it is named and left out


class _Harmful:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_nothing_is_unpickled(tmp_path):
    file = tmp_path / "vectors.npy"
    np.save(file, np.array([_Harmful()], object), allow_pickle=True)
    with pytest.raises(UsageError, match="no array of NumPy"):
        find_vectors(file)
    file.write_bytes(pickle.dumps([1]))
    with pytest.raises(UsageError, match="no array of NumPy"):
        find_vectors(file)


def test_what_is_no_file_of_vectors_is_explained(tmp_path, library):
    with pytest.raises(NotFoundError):
        find_vectors(tmp_path / "nothing.npy")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UsageError, match="no file of vectors"):
        find_vectors(tmp_path / "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.npy or \.parquet"):
        find_vectors(tmp_path / "empty")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(UsageError, match=r"vectors are numbers, \(n, d\)"):
        find_vectors(tmp_path / "flat.npy")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"cannot be read|need pyarrow"):
        find_vectors(tmp_path / "broken.parquet")
    with pytest.raises(UsageError, match="written to"):
        write_vectors(tmp_path / "a.csv", [], SPACE)


@pytest.mark.parametrize("lines", [1, 3])
def test_a_sidecar_of_another_length_is_refused(tmp_path, lines):
    np.save(tmp_path / "v.npy", np.ones((2, 3)))
    (tmp_path / "v.jsonl").write_text('{"id": 1}\n' * lines)
    with pytest.raises(UsageError, match="more"):
        list(read_vectors(find_vectors(tmp_path / "v.npy")))
