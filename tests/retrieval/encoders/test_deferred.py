import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.base import Encoder, importable_preprocess, least_side
from retrieval.encoders.deferred import DeferredEncoder, encoder_of
from retrieval.encoders.trust import trust
from retrieval.errors import SpaceMismatchError
from retrieval.media import Modality


def test_loading_waits_until_it_is_needed(tiny_encoder):
    loads = []

    def load() -> Encoder:
        loads.append(1)
        return tiny_encoder

    deferred = DeferredEncoder(tiny_encoder.space, load)
    assert isinstance(deferred, Encoder)
    assert loads == [1]  # the protocol's check asks for every member
    deferred = DeferredEncoder(tiny_encoder.space, load)
    assert deferred.space == tiny_encoder.space
    assert loads == [1]
    deferred.preprocess(Image.new("RGB", (9, 9)))
    deferred.token_count("a dog")
    assert loads == [1, 1]


def test_it_answers_as_the_encoder_does(tiny_encoder):
    deferred = DeferredEncoder(tiny_encoder.space, lambda: tiny_encoder)
    pixels = deferred.preprocess(Image.new("RGB", (40, 30), "red"))[np.newaxis]
    np.testing.assert_array_equal(
        deferred.encode(Modality.IMAGE, pixels), tiny_encoder.encode(Modality.IMAGE, pixels)
    )
    np.testing.assert_array_equal(
        deferred.encode(Modality.TEXT, ["a dog"]), tiny_encoder.encode(Modality.TEXT, ["a dog"])
    )
    np.testing.assert_array_equal(
        deferred.image_tokens(pixels).values, tiny_encoder.image_tokens(pixels).values
    )
    np.testing.assert_array_equal(
        deferred.text_tokens(["a dog"]).values, tiny_encoder.text_tokens(["a dog"]).values
    )
    assert deferred.context_length == tiny_encoder.context_length
    assert deferred.input_side == tiny_encoder.input_side
    assert least_side(deferred) == least_side(tiny_encoder)
    assert importable_preprocess(deferred) is importable_preprocess(tiny_encoder) is None
    assert deferred.token_spans("a dog") == tiny_encoder.token_spans("a dog")
    assert deferred.view(40, 30) == tiny_encoder.view(40, 30)


def test_an_encoder_that_has_changed_is_refused(indexed_library, tiny_checkpoint, tmp_path):
    """Its vectors could not be compared with those in the library."""
    space = indexed_library.space()
    assert encoder_of(indexed_library, space, "cpu").space == space
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    (other / "open_clip_config.json").write_text(
        (other / "open_clip_config.json").read_text().replace(": {}", ': {"mean": [0, 0, 0]}')
    )
    trust(other)
    with pytest.raises(SpaceMismatchError):
        encoder_of(indexed_library, replace(space, encoder=f"local-dir:{other}"), "cpu")
