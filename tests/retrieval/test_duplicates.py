from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from indexer.pipeline import index_sources
from retrieval import duplicates as module
from retrieval.duplicates import find_exact, find_near, similar_rows
from retrieval.errors import UsageError

ROUNDING = 1e-4


@pytest.fixture
def small_blocks(monkeypatch):
    """So small that the pairs of a few rows lie in many blocks, and are dropped at once."""
    monkeypatch.setattr(module, "_BLOCK", 3)
    monkeypatch.setattr(module, "_PAIRS_KEPT", 2)


vectors = st.integers(0, 20).flatmap(
    lambda n: hnp.arrays(np.float16, (n, 3), elements=st.sampled_from([-1, -0.5, 0, 0.25, 1]))
)


@given(vectors, st.data())
def test_pairs_are_those_of_a_comparison_one_by_one(vectors, data):
    count = len(vectors)
    picked = data.draw(st.sets(st.sampled_from(range(count))) if count else st.just(set()))
    rows = np.array(sorted(picked), dtype=np.int64)
    contents = data.draw(hnp.arrays(np.int64, len(rows), elements=st.integers(0, 8)))
    threshold = data.draw(st.sampled_from([0, 0.5, 0.9, 1]))
    limit = data.draw(st.sampled_from([None, 1, 5]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 3)
        patch.setattr(module, "_PAIRS_KEPT", 2)
        found = similar_rows(vectors, rows, contents, threshold, limit=limit)

    exact = vectors.astype(np.float64)
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-9)
    cosines = {
        (a, b): exact[a] @ exact[b]
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
        if i < j and contents[i] != contents[j]
    }
    expected = {pair: cosine for pair, cosine in cosines.items() if cosine >= threshold - 1e-6}
    best = sorted(expected.values(), reverse=True)[:limit]
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert found.found == len(expected)
    assert len(set(pairs)) == len(pairs) == len(best)
    np.testing.assert_allclose(found.similarity, best, atol=1e-6)
    np.testing.assert_allclose(found.similarity, [expected[pair] for pair in pairs], atol=1e-6)


def test_progress_ends_where_it_said(small_blocks):
    told = []
    similar_rows(
        np.eye(7, dtype=np.float16),
        np.arange(7),
        np.arange(7),
        0.5,
        on_progress=lambda *event: told.append(event),
    )
    assert told == [(done, 6) for done in range(1, 7)]


@pytest.fixture
def library(library_with_copies):
    return library_with_copies


def exact_names(library) -> set[tuple[str, ...]]:
    with library.catalog.snapshot() as snapshot:
        groups = find_exact(snapshot)
    return {tuple(Path(path).name for path in group.paths) for group in groups}


def near_names(library, threshold: float, **options) -> list[set[str]]:
    near = find_near(library, library.space(), threshold, **options)
    return [{Path(pair.first.path).name, Path(pair.second.path).name} for pair in near.pairs]


def test_files_of_one_content_are_a_group_and_links_are_not(library, picture_folder):
    assert exact_names(library) == {("copy.png", "picture-0.png"), ("a.txt", "b.txt")}
    with library.catalog.snapshot() as snapshot:
        largest, smallest = find_exact(snapshot)
    assert largest.size == largest.spare_bytes == (picture_folder / "copy.png").stat().st_size
    assert smallest.spare_bytes == len("The same words.")


def test_removed_and_changed_files_are_no_copies(library, picture_folder, tiny_encoder):
    (picture_folder / "copy.png").unlink()
    (picture_folder / "a.txt").write_text("Other words.")
    assert exact_names(library) == set()
    index_sources(library, tiny_encoder, [picture_folder], workers=1)
    assert exact_names(library) == set()


def test_the_most_similar_pair_is_the_picture_and_its_version(library):
    near = find_near(library, library.space(), 0)
    best = near.pairs[0]
    assert Path(best.first.path).name == "larger.png"
    assert best.first.content_hash != best.second.content_hash
    assert (best.first.width, best.second.width) == (96, 48)
    assert near.pictures == 7
    similarities = [pair.similarity for pair in near.pairs]
    assert similarities == sorted(similarities, reverse=True)
    assert len(similarities) == near.found <= 7 * 6 / 2
    assert near_names(library, similarities[0] - ROUNDING, limit=1) == [
        {"larger.png", Path(best.second.path).name}
    ]


def test_outdated_pairs_are_counted_and_left_out(library, picture_folder, tiny_encoder):
    before = find_near(library, library.space(), 0)
    (picture_folder / "larger.png").unlink()
    after = find_near(library, library.space(), 0)
    assert after.found == before.found
    assert after.outdated == before.found - len(after.pairs) > 0
    assert all("larger.png" not in names for names in near_names(library, 0))
    index_sources(library, tiny_encoder, [picture_folder], workers=1)
    again = find_near(library, library.space(), 0)
    assert (again.pictures, again.outdated) == (6, 0)
    assert {(p.first.id, p.second.id) for p in again.pairs} == {
        (p.first.id, p.second.id) for p in after.pairs
    }


def test_frames_are_compared_only_when_asked_for_and_never_within_a_file(
    tmp_path, library, tiny_encoder
):
    with Image.open(tmp_path / "pictures" / "copy.png") as image:
        pages = [image.convert("RGB"), image.convert("RGB").rotate(180)]
    folder = tmp_path / "documents"
    folder.mkdir()
    pages[0].save(folder / "two pages.pdf", save_all=True, append_images=pages[1:])
    index_sources(library, tiny_encoder, [folder], workers=1)
    assert find_near(library, library.space(), 0).pictures == 7
    near = find_near(library, library.space(), 0, frames=True)
    assert near.pictures == 9
    files = [{pair.first.path, pair.second.path} for pair in near.pairs]
    assert any(str(folder / "two pages.pdf") in paths for paths in files)
    assert {str(folder / "two pages.pdf")} not in files


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(indexed_library, threshold):
    with pytest.raises(UsageError, match="between 0 and 1"):
        find_near(indexed_library, indexed_library.space(), threshold)
