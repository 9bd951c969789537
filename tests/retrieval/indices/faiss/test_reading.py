import os
import random
import signal
import warnings

import numpy as np
import pytest

faiss = pytest.importorskip("faiss")

from retrieval.indices.base import AllowedRows, Effort, UnsafeIndexError  # noqa: E402
from retrieval.indices.faiss.ivf import FactoryIndex  # noqa: E402
from retrieval.indices.faiss.reading import read_index  # noqa: E402

ROWS, DIMENSION = 300, 16
KINDS = [
    "Flat",
    "IVF4,Flat",
    "IVF4,SQ8",
    "IVF4,PQ4x4",
    "IVF4,PQ4x4fs",
    "OPQ4_16,IVF4,PQ4x4",
    "IVF4_HNSW8,PQ4x4",
    "IVF4,RaBitQ",
    "IVF4,RaBitQfs",
    "HNSW8",
    "HNSW8_SQ8",
    "SQ8",
    "SQfp16",
    "PCAR8,IVF4,Flat",
    "L2norm,SQ6",
]


@pytest.fixture(scope="module")
def vectors():
    found = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def write(kind, vectors, file):
    index = FactoryIndex(kind, vectors.astype(np.float16))
    index.add(vectors.astype(np.float16))
    index.save(file)
    return index


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_is_built(tmp_path, vectors, kind):
    built = write(kind, vectors, tmp_path / "index")
    read = FactoryIndex.open(tmp_path / "index", vectors.astype(np.float16), kind)
    for index in (built, read):
        index.effort = Effort(4)
    np.testing.assert_array_equal(read.search(vectors[:9], 5)[1], built.search(vectors[:9], 5)[1])


@pytest.mark.parametrize("kind", ["LSH", "IVF4,Flat,RFlat", "PQ4x4", "IMI2x2,PQ4x4"])
def test_refuses_other_kinds(tmp_path, vectors, kind):
    index = faiss.index_factory(DIMENSION, kind)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "index"))
    with pytest.raises(UnsafeIndexError, match="of the kind"):
        read_index(tmp_path / "index")


def test_refuses_lists_in_another_file_before_it_is_opened(tmp_path, vectors):
    """The reproduction: FAISS maps the file that the sender named, for writing."""
    victim = tmp_path / "victim"
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIMENSION), DIMENSION, 4)
    index.train(vectors)
    lists = faiss.OnDiskInvertedLists(4, index.code_size, str(victim))
    index.replace_invlists(lists)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "index"))
    del index, lists
    victim.unlink()  # reading it would fail otherwise than by refusal
    with pytest.raises(UnsafeIndexError, match="names another file"):
        read_index(tmp_path / "index")


def test_refuses_rows_that_are_not_there(tmp_path, vectors):
    index = faiss.index_factory(DIMENSION, "IVF4,Flat")
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(ROWS) + 1)
    faiss.write_index(index, str(tmp_path / "index"))
    with pytest.raises(UnsafeIndexError, match="row numbers"):
        read_index(tmp_path / "index")


@pytest.mark.parametrize("link", [ROWS, 2**31 - 1, -2])
def test_refuses_a_graph_that_leads_nowhere(tmp_path, vectors, link):
    index = faiss.index_factory(DIMENSION, "HNSW8")
    index.add(vectors)
    links = faiss.vector_to_array(index.hnsw.neighbors)
    links[0] = link
    faiss.copy_array_to_vector(links, index.hnsw.neighbors)
    faiss.write_index(index, str(tmp_path / "index"))
    with pytest.raises((UnsafeIndexError, RuntimeError)):
        read_index(tmp_path / "index")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a crash must not end the tests")
@pytest.mark.skipif(
    not hasattr(faiss, "set_deserialization_vector_byte_limit"),
    reason="earlier versions of FAISS allocate what a file says",
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_is_refused_or_searched(tmp_path, vectors, kind):
    write(kind, vectors, tmp_path / "index")
    good = (tmp_path / "index").read_bytes()
    generator = random.Random(kind)
    for _ in range(40):
        content = mutated(good, generator)
        (tmp_path / "index").write_bytes(content)
        assert outcome_of(tmp_path / "index", vectors, kind) in {"searched", "refused"}


def mutated(good, generator):
    content = bytearray(good)
    for _ in range(generator.choice([1, 1, 2, 4])):
        place = generator.randrange(min(len(content), generator.choice([64, 300, len(content)])))
        match generator.randrange(4):
            case 0:
                content[place] ^= 1 << generator.randrange(8)
            case 1:
                content[place] = generator.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                number = generator.choice([2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 0, 1, ROWS])
                content[place : place + 8] = number.to_bytes(8, "little")
            case _:
                del content[-generator.randrange(1, 200) :]
    return bytes(content)


def outcome_of(file, vectors, kind):
    """Read and search in a process of its own, which may crash."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(30)
        faiss.omp_set_num_threads(1)  # those of the parent are not there to be waited for
        warnings.simplefilter("ignore")  # of NumPy, about infinite distances
        status = 2
        try:
            search(file, vectors, kind)
            status = 0
        except RuntimeError:
            status = 1
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return {0: "searched", 1: "refused", 2: "another error"}.get(code, f"signal {-code}")


def search(file, vectors, kind):
    index = FactoryIndex.open(file, vectors.astype(np.float16), kind)
    if (len(index), index.dimension) != (ROWS, DIMENSION):
        return
    index.effort = Effort(4)
    assert index.details()
    assert index.max_breadth
    some = np.zeros(ROWS, np.bool_)
    some[::7] = True
    for allowed in (None, AllowedRows(some)):
        _, rows = index.search(vectors[:5], 10, allowed)
        assert rows.max() < ROWS
    index.quantisation_error(vectors[:9].astype(np.float16))
    index.add(vectors[:40].astype(np.float16))
    index.search(vectors[:5], 10)
