"""What the spaces of a library hold, and their removal, also where it is interrupted."""

import shutil

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.errors import UsageError
from retrieval.library import open_library
from retrieval.media import Modality
from retrieval.search.engine import Engine
from retrieval.search.query import Query, Reranking, TextPart
from retrieval.spaces import list_spaces, ordered_space_ids

ANY = Query((TextPart("x"),), k=100)
NONE = Reranking("none")


@pytest.fixture
def library(indexed_library, other_encoder, picture_folder):
    """Six pictures and a note in two spaces."""
    (picture_folder / "note.txt").write_text("Some words.")
    index_sources(indexed_library, indexed_library_encoder(indexed_library))
    indexed_library.add_space(other_encoder.space)
    index_sources(indexed_library, other_encoder)
    return indexed_library


def indexed_library_encoder(library):
    return Engine(library, device="cpu").encoder


def found(library, space_id=None):
    engine = Engine(library, space_id=space_id, device="cpu")
    return sorted(hit.path for hit in engine.search(ANY, NONE))


def test_spaces_are_described_the_default_one_first(library, other_encoder, picture_folder):
    default, other = list_spaces(library)
    assert (default.id, default.is_default) == (library.space().id, True)
    assert (other.id, other.is_default) == (other_encoder.space.id, False)
    for status in (default, other):
        assert status.items == {Modality.IMAGE: 6, Modality.TEXT: 1, Modality.AUDIO: 0}
        assert status.is_complete
    Image.new("RGB", (9, 9)).save(picture_folder / "new.png")
    (picture_folder / "folder 0" / "picture-0.png").unlink()
    (picture_folder / "note.txt").write_text("Other words.")
    (picture_folder / "broken.png").write_bytes(b"no picture")
    index_sources(library, other_encoder)
    default, other = list_spaces(library)
    assert (default.files_behind, other.files_behind) == (2, 0)
    assert default.items == {Modality.IMAGE: 5, Modality.TEXT: 0, Modality.AUDIO: 0}
    library.set_default_space(other.id)
    assert ordered_space_ids(open_library(library.path)) == [other.id, default.id]


def test_a_removed_space_leaves_the_other_as_it_is(library, other_encoder):
    before, other = found(library), other_encoder.space.id
    library.remove_space(other)
    assert library.space_ids() == [library.space().id]
    assert not library.space_directory(other_encoder.space).exists()
    assert found(library) == before
    with pytest.raises(UsageError, match="has no space"):
        library.remove_space(other)
    with library.catalog.snapshot() as snapshot:
        assert not any(snapshot.row_count(other, modality) for modality in Modality)
        assert snapshot.files_behind(other) == 7


def test_what_only_a_removed_space_had_is_gone_with_its_words(library, other_encoder):
    default = library.space().id
    with library.catalog.transaction() as transaction:
        transaction.remove_space(default)
    with library.catalog.snapshot() as snapshot:
        assert len(snapshot.items(other_encoder.space.id, limit=100)) == 7
        assert snapshot.text_matches(other_encoder.space.id, Modality.TEXT, "words", limit=9)
    library.set_default_space(other_encoder.space.id)
    library.remove_space(default)
    with library.catalog.transaction() as transaction:
        transaction.remove_space(other_encoder.space.id)
        assert not transaction.items(other_encoder.space.id, limit=100)
        assert all(transaction.item(item_id) is None for item_id in range(1, 20))


@pytest.mark.parametrize("instant", ["unlink", "rmtree"])
def test_a_removal_that_was_killed_is_completed_by_the_next(
    library, other_encoder, monkeypatch, instant
):
    """After the catalog was changed and before files were deleted, or in between."""
    before = found(library)

    class KilledError(BaseException):
        pass

    def kill(*_, **__):
        raise KilledError

    with monkeypatch.context() as patch:
        target = "pathlib.Path.unlink" if instant == "unlink" else "retrieval.library.shutil.rmtree"
        patch.setattr(target, kill)
        with pytest.raises(KilledError):
            library.remove_space(other_encoder.space.id)
    again = open_library(library.path)
    assert found(again) == before
    if instant == "unlink":  # it is there still, and empty
        assert found(again, other_encoder.space.id) == []
    again.remove_space(other_encoder.space.id)
    assert not again.space_directory(other_encoder.space).exists()


def test_a_space_can_be_added_again_after_a_removal_that_was_killed(library, other_encoder):
    expected = vectors(library, other_encoder.space)
    with library.catalog.transaction() as transaction:
        transaction.remove_space(other_encoder.space.id)
    index_sources(library, other_encoder)
    assert found(library, other_encoder.space.id) == found(library)
    np.testing.assert_array_equal(vectors(library, other_encoder.space), expected)


def vectors(library, space):
    return np.array(library.embeddings(space, Modality.IMAGE).rows(6))


def test_a_reader_of_a_removed_space_goes_on(library, other_encoder, picture_folder):
    """It finds nothing, and after the space was added again, what is there then."""
    engine = Engine(library, space_id=other_encoder.space.id, device="cpu")
    assert len(engine.search(ANY, NONE)) == 6
    library.remove_space(other_encoder.space.id)
    assert not len(engine.search(ANY, NONE))
    library.add_space(other_encoder.space)
    shutil.rmtree(picture_folder / "folder 0")
    index_sources(library, other_encoder)
    fresh = Engine(library, space_id=other_encoder.space.id, device="cpu").search(ANY, NONE)
    hits = engine.search(ANY, NONE)
    assert len(hits) == 3
    assert [hit.similarity for hit in hits] == pytest.approx([hit.similarity for hit in fresh])


def test_nothing_is_indexed_into_a_space_that_was_removed(library, other_encoder):
    library.remove_space(other_encoder.space.id)
    with pytest.raises(UsageError, match="has no space"):
        index_sources(library, other_encoder)
    assert not library.space_directory(other_encoder.space).exists()


def test_the_default_space_stays(library):
    with pytest.raises(UsageError, match="is the default space"):
        library.remove_space(library.space().id)
    stale = open_library(library.path)
    other = next(one for one in library.space_ids() if one != library.space().id)
    library.set_default_space(other)
    with pytest.raises(UsageError, match="is the default space"):
        stale.remove_space(other)
    with pytest.raises(UsageError, match="has no space"):
        library.set_default_space("nonsense")
