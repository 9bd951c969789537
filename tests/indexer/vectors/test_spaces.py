"""Which space vectors are added to."""

import pytest

from indexer.vectors.spaces import choose_space, choose_space_of_file
from retrieval.encoders.given import given_space
from retrieval.errors import UsageError
from retrieval.library import create_library


@pytest.fixture
def library(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    library.add_space(given_space("things", 8))
    yield library
    library.close()


def test_a_space_is_named_by_its_id_its_encoder_or_its_own_name(library, tiny_encoder):
    things = given_space("things", 8)
    for name in (things.id, "things", things.encoder):
        assert choose_space(library, name, 8) == things
    for name in (None, tiny_encoder.space.id, tiny_encoder.space.encoder):
        assert choose_space(library, name, 32) == tiny_encoder.space
    assert choose_space(library, "others", 5) == given_space("others", 5)


def test_the_space_of_an_encoder_may_be_new(library, other_encoder):
    name = other_encoder.space.encoder
    assert choose_space(library, name, 32) == other_encoder.space


def test_vectors_of_another_dimension_are_refused(library):
    for name in (None, "things"):
        with pytest.raises(UsageError, match="The vectors have 9 dimensions"):
            choose_space(library, name, 9)


def test_a_file_goes_where_it_is_named_or_says_that_it_belongs(library, tiny_encoder):
    own, things = tiny_encoder.space, given_space("things", 8)
    for name, said, space in [
        (None, own.id, own),
        (None, things.id, things),
        (things.id, own.id, things),
        (own.encoder, None, own),
        ("others", "elsewhere", given_space("others", 8)),
    ]:
        assert choose_space_of_file(library, name, said, space.dimension) == space


@pytest.mark.parametrize("said", [None, "elsewhere", "../../etc"])
def test_vectors_of_any_model_do_not_get_into_the_space_of_an_encoder(library, said):
    with pytest.raises(UsageError, match=r"if local-dir:.* made them, give `--space local-dir:"):
        choose_space_of_file(library, None, said, 32)


def test_a_library_of_added_vectors_takes_more_of_them(tmp_path):
    things = given_space("things", 8)
    library = create_library(tmp_path / "things", things)
    assert choose_space_of_file(library, None, None, 8) == things
    library.close()
