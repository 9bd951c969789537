"""`mmsearch export` and `mmsearch import`."""

import numpy as np
import pytest

from indexer.pipeline import index_sources
from retrieval.library import create_library, open_library


@pytest.fixture
def vectors(tmp_path):
    generator = np.random.default_rng(0)
    array = generator.normal(size=(6, 5)).astype(np.float32)
    array[4] = np.nan
    np.save(tmp_path / "shop.npy", array)
    lines = [f'{{"id": "p{n}", "price": {n}}}\n' for n in range(6)]
    (tmp_path / "shop.jsonl").write_text("".join(lines))
    return tmp_path / "shop.npy"


def test_vectors_are_imported_and_exported_again(run, tmp_path, vectors):
    imported = run("import", vectors)
    assert imported.code == 0
    assert "p4: left out, not finite" in imported.err
    assert "Imported 5 vectors of 5 dimensions into the space vectors-shop-5-" in imported.out
    again = run("import", vectors, "--json").json
    assert (again["vectors"], again["skipped_count"]) == (5, 1)
    assert again["skipped"] == [{"item": "p4", "reason": "not finite"}]
    where = '{"columns": {"price": {"min": 3}}}'
    exported = run("export", tmp_path / "out.npy", "--where", where, "--json").json
    assert (exported["vectors"], exported["dimension"]) == (2, 5)
    assert np.load(tmp_path / "out.npy").shape == (2, 5)
    told = run("export", tmp_path / "all.npy", "--space", "shop", "--modality", "image")
    assert "Exported 5 vectors of 5 dimensions" in told.out


def test_vectors_go_into_a_space_beside_others(run, tmp_path, tiny_encoder, vectors):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    library.close()
    np.save(tmp_path / "as-wide.npy", np.eye(2, 32, dtype=np.float32))
    refused = run("import", tmp_path / "as-wide.npy")  # another model has 32 dimensions, too
    assert refused.code == 2
    assert "do not say their space" in refused.err
    assert run("import", vectors, "--space", tiny_encoder.space.encoder).code == 2  # 5, not 32
    assert run("import", vectors, "--space", "shop").code == 0
    spaces = run("spaces", "--json").json["spaces"]
    assert {one["encoder"]: one["images"] for one in spaces} == {
        tiny_encoder.space.encoder: 0,
        "vectors:shop/5": 5,
    }
    assert [one["files_behind"] for one in spaces] == [0, 0]


@pytest.mark.slow
def test_vectors_of_an_encoder_answer_texts(run, tmp_path, tiny_encoder, picture_folder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [picture_folder])
    expected = [hit.path for hit in library.search("red", rerank="none")]
    assert run("export", tmp_path / "v.npy").code == 0
    name = tiny_encoder.space.encoder
    other = tmp_path / "other"
    assert run("import", tmp_path / "v.npy", "--space", name, "--library", other).code == 0
    found = open_library(other)
    assert [hit.path for hit in found.search("red", rerank="none")] == expected
    index_sources(found, tiny_encoder, [picture_folder])
    assert [hit.path for hit in found.search("red", rerank="none")] == expected


def test_errors_say_what_to_do(run, tmp_path, vectors):
    assert run("export", tmp_path / "v.npy").code == 1  # there is no library
    run("import", vectors)
    wrong = run("export", tmp_path / "v.csv")
    assert (wrong.code, ".parquet" in wrong.err) == (2, True)
    assert "--where" in run("export", tmp_path / "v.npy", "--where", "{").err
    assert "There is nothing at" in run("import", tmp_path / "nothing.npy").err


def test_spaces_of_added_vectors_are_searched_by_their_names(run, vectors):
    assert run("import", vectors).code == 0
    by_name = run("search", "--like", "1", "--space", "shop", "--json")
    assert (by_name.code, len(by_name.json["hits"])) == (0, 4)  # and not itself
    space_id = run("export", vectors.with_name("all.npy"), "--json").json["space"]
    by_id = run("search", "--like", "1", "--space", space_id, "--json").json
    assert [hit["item_id"] for hit in by_name.json["hits"]] == [h["item_id"] for h in by_id["hits"]]
    for command in (["facets"], ["duplicates"], ["index-info"]):
        assert run(*command, "--space", "shop").code == 0, command
    unknown = run("search", "--like", "1", "--space", "shops")
    assert (unknown.code, "shops" in unknown.err) == (2, True)
