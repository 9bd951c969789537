"""The identity of a space, and what an encoder that cannot do something says."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from retrieval.encoders.base import (
    REDUCED_TO_SIDES,
    ImageTextEncoder,
    Space,
    Tokens,
    cannot_encode,
    importable_preprocess,
    least_side,
    reduction,
    require_tokens,
)
from retrieval.errors import UsageError
from retrieval.media import Modality

SPACE = Space("open_clip:ViT-B-32/laion2b", "sha256:abc", "resize to 224", 512)


def test_the_name_of_a_space_never_changes():
    """Libraries have directories of this name."""
    assert SPACE.id == "open-clip-vit-b-32-laion2b-3ed5758753d6"


@pytest.mark.parametrize("field", [field.name for field in fields(Space)])
def test_spaces_that_differ_in_anything_have_other_names(field):
    value = getattr(SPACE, field)
    other = replace(SPACE, **{field: value + 1 if field == "dimension" else f"{value}2"})
    assert other.id != SPACE.id


def test_any_encoder_gives_a_name_that_is_a_directory():
    name = replace(SPACE, encoder="local-dir:/Über all/" + "x" * 300).id
    assert name.isascii()
    assert len(name) <= 53
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


class VectorsOnly:
    """An encoder without token-level outputs."""

    space = SPACE
    modalities = frozenset({Modality.TEXT, Modality.IMAGE})
    context_length = input_side = 1

    def preprocess(self, image): ...
    def encode(self, modality, inputs): ...
    def token_count(self, text): ...


class WithTokens(VectorsOnly):
    """An encoder that rerankers can read."""

    def image_tokens(self, pixels): ...
    def text_tokens(self, texts): ...
    def token_spans(self, text): ...
    def view(self, width, height): ...


def test_tokens_are_required_by_name_of_the_encoder():
    encoder = WithTokens()
    assert require_tokens(encoder) is encoder
    with pytest.raises(UsageError, match=r"'open_clip:ViT-B-32/laion2b' gives vectors only"):
        require_tokens(VectorsOnly())


def test_a_modality_that_is_not_taken_is_named_with_those_that_are():
    assert "takes image and text, not audio" in str(cannot_encode(VectorsOnly(), "audio"))


class Sizes(ImageTextEncoder):
    """Gives the number of inputs, and which of the two it was asked for."""

    space = SPACE

    def preprocess(self, image): ...
    def token_count(self, text): ...
    def _encode_images(self, pixels):
        return "images", pixels.shape

    def _encode_texts(self, texts):
        return "texts", len(texts)


def test_images_and_texts_are_encoded_each_in_their_way():
    encoder = Sizes()
    assert encoder.encode(Modality.IMAGE, [np.zeros((2, 3))] * 4) == ("images", (4, 2, 3))
    assert encoder.encode(Modality.TEXT, ["a", "b"]) == ("texts", 2)
    with pytest.raises(UsageError, match="takes image and text, not audio"):
        encoder.encode("audio", [])


def test_tokens_under_a_false_mask_are_zero():
    values = np.ones((3, 4, 2), np.float32)
    tokens = Tokens.padded(values, np.array([0, 3, 9]))
    assert tokens.mask.sum(1).tolist() == [0, 3, 4]
    assert (tokens.values == tokens.mask[..., np.newaxis]).all()
    assert tokens.values.dtype == np.float32
    assert Tokens.all_present(values).mask.tolist() == [[True] * 4] * 3


def whole(image):
    return np.asarray(image)


def test_pictures_keep_as_many_sides_as_the_encoder_says():
    class OneSide(VectorsOnly):
        input_side = 260
        reduced_to_sides = 1

    assert least_side(OneSide()) == 260
    assert least_side(VectorsOnly()) == REDUCED_TO_SIDES
    assert reduction(1).endswith("to no less than 1 side")
    # Older libraries are known by these words.
    assert reduction() == "larger pictures reduced by whole factors, to no less than 2 sides"


def test_other_processes_import_preprocess_where_it_is_a_function_of_a_module():
    class Importable(VectorsOnly):
        preprocess = staticmethod(whole)

    class Unnamed(VectorsOnly):
        preprocess = staticmethod(lambda image: image)

    preprocess = importable_preprocess(Importable())
    assert preprocess is whole
    assert pickle.loads(pickle.dumps(preprocess)) is whole
    assert importable_preprocess(Unnamed()) is None
    assert importable_preprocess(VectorsOnly()) is None
