"""The public Python API, as a program uses it."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import mmsearch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, colour in enumerate(["red", "green", "blue", "yellow"]):
        Image.new("RGB", (64, 48), colour).save(folder / f"{number}-{colour}.png")
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder, folder):
    path = tmp_path_factory.mktemp("libraries") / "library"
    with mmsearch.create(path, tiny_encoder.space.encoder) as library:
        library.index(folder)
        yield library


@pytest.fixture
def own_library(library, tmp_path):
    """A copy to write to."""
    shutil.copytree(library.path, tmp_path / "library")
    with mmsearch.open(tmp_path / "library") as copy:
        yield copy


def names(answer):
    return [hit.path.rpartition("/")[2] for hit in answer]


def test_importing_loads_nothing_heavy():
    program = (
        "import sys, mmsearch\n"
        "heavy = {'torch', 'faiss', 'numpy', 'PIL', 'sqlalchemy', 'pydantic', 'retrieval'}\n"
        "print(sorted(heavy & set(sys.modules)), 'Library' in dir(mmsearch))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[] True\n"


def test_every_public_name_is_there():
    for name in mmsearch.__all__:
        assert getattr(mmsearch, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mmsearch.nothing  # noqa: B018


def test_a_picture_is_found_by_each_form_of_it(library, folder):
    file = folder / "2-blue.png"
    image = Image.open(file)
    forms = [file, file.read_bytes(), image, np.asarray(image)]
    answers = library.search(forms, k=4)
    assert [names(answer) for answer in answers] == [names(answers[0])] * 4
    assert answers[0][0].similarity == pytest.approx(1, abs=1e-3)
    for form in (*forms, str(file)):
        assert names(library.search(image=form, k=4)) == names(answers[0])


def test_several_queries_are_answered_as_each_alone(library):
    texts = ["red", "a blue square", "nothing"]
    many = library.search(texts, k=3, where={"kind": ["image"]})
    alone = [library.search(text, k=3, where={"kind": ["image"]}) for text in texts]
    assert list(map(names, many)) == list(map(names, alone))
    assert library.search([]) == []


def test_what_is_no_list_belongs_to_each_query(library, folder):
    image = folder / "0-red.png"
    [first, second] = library.search(["red", "blue"], image=image, minus="green", k=4)
    assert names(first) == names(library.search("red", image=image, minus=["green"], k=4))
    assert names(second) == names(library.search("blue", image=image, minus=["green"], k=4))
    with pytest.raises(mmsearch.UsageError, match="different lengths: 2, 3"):
        library.search(["a", "b"], image=[image] * 3)


def test_a_vector_finds_what_its_text_finds(library):
    vectors = library.encoder.encode(["red", "blue"])
    by_vector = library.search(vector=vectors, k=4)
    by_text = library.search(["red", "blue"], k=4, mode="vector", rerank="none")
    assert list(map(names, by_vector)) == list(map(names, by_text))
    assert names(library.search(vector=vectors[0], k=4)) == names(by_text[0])


def test_hits_and_items_are_queries(library):
    [first, *_] = library.search("red", k=4)
    found = [names(library.search(like=one)) for one in (first, first.item, first.item.id)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": 5}, "A query is a text"),
        ({"query": ["a", 5]}, "A query is a text"),
        ({"query": {"text": "a"}}, "A query is a text"),
        ({"query": np.zeros((4, 4, 3))}, "dtype uint8"),
        ({"image": np.zeros((3, 4, 4), np.uint8)}, "transpose"),
        ({"query": "a", "k": "3"}, "k= is int, not a str"),
        ({"query": "a", "k": True}, "k= is int, not a bool"),
        ({"query": "a", "where": [1]}, "where= is a Filter or a dict"),
        ({"query": "a", "minus": 3}, "minus= is a list of str"),
        ({"query": "a", "minus": [3]}, "it has an int"),
        ({"query": "a", "like": ["x"]}, "An item is its id"),
        ({"query": "a", "mode": 1}, "mode= is str"),
        ({"query": "a", "top_k": 3}, "no option 'top_k'. Use k="),
        ({"query": "a", "limit": 3}, "no option 'limit'. Use k="),
        ({"query": "a", "filters": {}}, "Use where="),
        ({"query": "a", "colour": "red"}, "no option 'colour'"),
        ({"vector": ["a"]}, "vector= is an array of numbers"),
        ({"vector": np.zeros((1, 1, 3))}, "vector= is an array of numbers"),
    ],
)
def test_wrong_types_are_named(library, options, message):
    with pytest.raises(TypeError, match=message):
        library.search(**options)


def test_wrong_values_are_usage_errors(library):
    for options in (
        {"query": " "},
        {"query": "a", "where": {"kin": 1}},
        {},
        {"query": "a", "k": 0},
    ):
        with pytest.raises(mmsearch.UsageError):
            library.search(**options)
    with pytest.raises(mmsearch.UsageError, match="no/such"):
        library.search(image="no/such.jpg")
    with pytest.raises(TypeError, match="path= is a path"):
        mmsearch.open(3)
    with pytest.raises(mmsearch.NotFoundError):
        mmsearch.open("no/such/library")
    with pytest.raises(mmsearch.NotFoundError, match="no item 99"):
        library.item(99)


def test_the_library_object_of_before_names_wrong_types(library):
    for options in ({"text": ["a", "b"]}, {"text": "a", "where": {}}, {"image": np.zeros(3)}):
        with pytest.raises(TypeError, match="is a"):
            library._library.search(**options)


@pytest.mark.slow
def test_files_are_added_with_payload(own_library, folder, tmp_path):
    new = tmp_path / "new.png"
    Image.new("RGB", (30, 30), "purple").save(new)
    ids = own_library.add(
        [new, folder / "0-red.png"], payload=[{"price": 3, "shop": "Mile End"}, None]
    )
    assert [own_library.item(item_id).path for item_id in ids] == [
        str(new),
        str(folder / "0-red.png"),
    ]
    where = {"columns": {"price": {"max": 3}}}
    assert names(own_library.search("anything", where=where)) == ["new.png"]
    own_library.index()
    assert names(own_library.search("Mile End", mode="text")) == ["new.png"]
    with pytest.raises(mmsearch.UsageError, match="is a folder"):
        own_library.add(folder)
    with pytest.raises(mmsearch.UsageError, match="1 dicts for 2 items"):
        own_library.add([new, new], payload=[{}])
    assert own_library.remove(new) == 1
    assert own_library.search("anything", where=where).hits == ()


def test_own_vectors_have_a_space_of_their_own(own_library, folder):
    vectors = np.eye(4, 6)
    ids = own_library.add(
        vectors=vectors,
        ids=["a", "b", "c", 4],
        payload=[{"n": n} for n in range(4)],
        texts=["first", None, None, None],
        space="things",
    )
    assert None not in ids
    answer = own_library.search(vector=vectors[1], spaces="things", k=2)
    assert (answer[0].path, answer[0].item.columns) == ("vectors:things/b", {"n": 1})
    assert own_library.facets().total == 4  # the photos, in the default space
    own_library.index()
    assert [space.files_behind for space in own_library.spaces] == [0, 0]
    assert len(list(own_library)) == 4
    assert {item.id for item in own_library.items(space="things")} == set(ids)
    assert own_library.remove(ids[0]) == 1
    assert len(list(own_library.items(space="things"))) == 3


def test_a_library_may_be_of_own_vectors_alone(tmp_path):
    with mmsearch.create(tmp_path / "own", space="things", dimension=3) as library:
        assert library.add(vectors=[[1, 0, 0], [np.nan, 0, 0], [0, 2, 0]]) == [1, None, 2]
        assert library.search(vector=[0, 1, 0], k=1)[0].path == "vectors:things/2"
        with pytest.raises(mmsearch.UsageError, match="no encoder for files"):
            library.index()
        with pytest.raises(mmsearch.UsageError, match="no encoder for a new text"):
            library.search("red")
        with pytest.raises(mmsearch.UsageError, match="4 dimensions"):
            library.add(vectors=np.eye(4))
    with mmsearch.open(tmp_path / "own") as again:
        assert "things" in repr(again)
        assert "2 images" in repr(again)
    with pytest.raises(mmsearch.UsageError, match="dimension="):
        mmsearch.create(tmp_path / "other", space="things")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, TypeError),
        ({"vectors": "abc"}, TypeError),
        ({"vectors": np.zeros((2, 2, 2))}, TypeError),
        ({"vectors": np.eye(2), "payload": ["a", "b"]}, TypeError),
        ({"vectors": np.eye(2), "payload": "ab"}, TypeError),
        ({"vectors": np.eye(2), "ids": "ab"}, TypeError),
        ({"vectors": np.eye(2), "payload": [{"a": object()}, None]}, TypeError),
        ({"vectors": np.eye(2), "ids": [1]}, mmsearch.UsageError),
        ({"vectors": np.eye(2), "space": "a b"}, mmsearch.UsageError),
        ({"paths": "x.jpg", "ids": ["a"]}, mmsearch.UsageError),
        ({"paths": [3]}, TypeError),
    ],
)
def test_what_cannot_be_added_is_refused(library, options, error):
    with pytest.raises(error):
        library.add(**options)


def test_items_and_vectors_are_read_out(library):
    items = list(library.items(modality="image"))
    assert [item.id for item in items] == [1, 2, 3, 4]
    batches = list(library.vectors(batch_size=3))
    assert [len(items) for items, _ in batches] == [3, 1]
    for found, vectors in batches:
        for item, vector in zip(found, vectors, strict=True):
            [nearest] = library.search(vector=vector, k=1)
            assert nearest.item.id == item.id


def test_a_library_goes_to_a_table_and_back(library, tmp_path):
    pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
    version = library.export_table(str(tmp_path / "table"))
    with mmsearch.create(tmp_path / "new", library.encoder.name) as other:
        assert other.import_table(f"lance:{tmp_path}/table") == version
        assert [item.path for item in other] == [item.path for item in library]
    with mmsearch.create(tmp_path / "own", space="own", dimension=3) as other:
        with pytest.raises(mmsearch.SpaceMismatchError):
            other.import_table(f"lance:{tmp_path}/table")
        assert other.import_table(f"lance:{tmp_path}/table", new_space=True) == version
        assert len(other.spaces) == 2


def test_data_frames(library):
    pandas = pytest.importorskip("pandas")
    frame = library.to_pandas(vectors=True)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["id"]) == [1, 2, 3, 4]
    assert frame["vector"][0].shape == (32,)
    hits = library.search("red", k=2).to_pandas()
    assert list(hits.columns[:3]) == ["rank", "path", "similarity"]


def test_a_missing_pandas_is_explained(library, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(mmsearch.UsageError, match="pip install pandas"):
        library.to_pandas()


def test_representations_are_short(library):
    answer = library.search("red", k=4)
    assert len(repr(answer)) < 300
    assert "mtime" not in repr(answer[0])
    assert repr(replace(answer[0].item, page=3)).endswith("page 3)")


def test_an_encoders_name_chooses_its_space(own_library, tiny_encoder, monkeypatch):
    def load(name, *_):
        assert name == "open_clip:tiny"
        return tiny_encoder

    monkeypatch.setattr("indexer.vectors.spaces.load_encoder", load)
    red = own_library.encoder.encode("red")
    [item_id] = own_library.add(vectors=red, ids=["red"], space="open_clip:tiny")
    assert own_library.search("red", k=1)[0].item.id == item_id
