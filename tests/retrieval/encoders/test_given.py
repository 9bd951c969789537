"""Spaces of vectors that were made elsewhere."""

import pytest
from PIL import Image

from retrieval.encoders.base import Encoder
from retrieval.encoders.given import GivenVectors, given_space, name_of_given
from retrieval.encoders.registry import load_encoder
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.media import Modality


def test_a_space_of_added_vectors_is_known_by_its_name_and_dimension():
    space = given_space("products.v2", 512)
    assert space.is_given
    assert space.dimension == 512
    assert name_of_given(space) == "products.v2"
    assert given_space("products.v2", 513).id != space.id
    assert space.id.startswith("vectors-products-v2-512-")


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a b", "x" * 41])
def test_what_cannot_be_a_name_is_refused(name):
    with pytest.raises(UsageError, match="cannot be the name of a space"):
        given_space(name, 4)


def test_its_encoder_is_loaded_by_name_and_encodes_nothing():
    space = given_space("products", 8)
    encoder = load_encoder(space.encoder, "cpu", space.weights)
    assert isinstance(encoder, GivenVectors)
    assert isinstance(encoder, Encoder)
    assert encoder.space == space
    with pytest.raises(UsageError, match="no encoder for a new text"):
        encoder.encode(Modality.TEXT, ["dog"])
    with pytest.raises(UsageError, match="no encoder for a new image"):
        encoder.preprocess(Image.new("RGB", (2, 2)))
    assert encoder.token_count("dog") == 0


@pytest.mark.parametrize("name", ["vectors:products", "vectors:/8", "vectors:products/many"])
def test_a_name_without_a_dimension_is_explained(name):
    with pytest.raises(EncoderUnavailableError, match="vectors:NAME/DIMENSION"):
        load_encoder(name)
