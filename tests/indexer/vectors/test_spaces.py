"""Which space vectors are added to."""

import pytest

from indexer.vectors.spaces import choose_space
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
