"""Pairs read as outputs of frozen layers, against what decoding them gives."""

from functools import partial

import pytest
import torch

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.encoders.frozen_states import frozen_states
from retrieval.training.encoders.image_augmentation import RandomAugmentation
from retrieval.training.encoders.models import DualModel, load_trainable
from retrieval.training.encoders.pairs import PhotoPairs, PhotoSet
from retrieval.training.encoders.tuning import tune
from tests.retrieval.training.encoders.tiny_runs import coloured_photos
from tests.tiny_dual_encoders import CONTEXT, PAD, tiny_dual_encoder


@pytest.fixture
def opened(tiny_checkpoint, tmp_path):
    """Photos, one of them damaged, in two variants: source, encoder, and what opens the cache."""
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    damaged = CaptionedPhoto(tmp_path / "damaged.png", ("nothing",))
    dual = load_trainable(f"local-dir:{tiny_checkpoint}")
    source = PhotoPairs(
        [PhotoSet([*coloured_photos(tmp_path)[:5], damaged])],
        augment_image=RandomAugmentation(dual.input_side, operations=0),
        variants=2,
    )
    tuned = tune(dual.model, "linear", learning_rate=1e-3)
    most = 10**9
    return source, dual, partial(frozen_states, tuned, dual, cache=tmp_path, most_bytes=most)


def test_states_of_a_pair_give_the_vectors_of_its_image_and_caption(opened):
    source, dual, open_states = opened
    states = open_states(source)
    seen = set()
    for epoch in (0, 1):
        for [pair] in source.batches(epoch, 1):
            if pair.image.endswith("damaged.png"):
                with pytest.raises(UnreadableFileError):
                    states.read(pair)
                continue
            seen.add((pair.number, pair.variant))
            with torch.no_grad():
                found = states.prefix.encode_image(states.read(pair)[None], normalize=True)
                pixels = dual.preprocess(pair.open())[None]
                torch.testing.assert_close(
                    found, dual.model.encode_image(pixels, normalize=True), atol=5e-3, rtol=0
                )
                found = states.prefix.encode_text(states.captions([pair.caption]), normalize=True)
                ids = dual.tokenize([pair.caption])
                torch.testing.assert_close(
                    found, dual.model.encode_text(ids, normalize=True), atol=5e-3, rtol=0
                )
    assert seen == {(number, variant) for number in range(5) for variant in (0, 1)}


def test_padding_behind_the_longest_caption_is_not_computed(tmp_path):
    model = tiny_dual_encoder("bert", tmp_path).eval()

    def tokenize(texts):
        ids = torch.full((len(texts), CONTEXT), PAD)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor([ord(letter) % 64 + 1 for letter in text])
        return ids

    photos = [
        CaptionedPhoto(photo.path, (text,))
        for photo, text in zip(coloured_photos(tmp_path), ("a", "longer", "some"), strict=False)
    ]
    side = (3, 32, 32)
    dual = DualModel(model, lambda _: torch.rand(side), tokenize, "tiny", "", {})
    tuned = tune(model, "partial", learning_rate=1e-3, layers=(1, 1))
    source = PhotoPairs([PhotoSet(photos)])
    states = frozen_states(tuned, dual, source, cache=tmp_path, most_bytes=10**9)
    assert states.texts.token_ids.shape == (3, len("longer"))
    with torch.no_grad():
        for text in ("a", "longer"):
            found = states.prefix.encode_text(states.captions([text]), normalize=True)
            whole = model.encode_text(tokenize([text]), normalize=True)
            torch.testing.assert_close(found, whole, atol=5e-3, rtol=0)


def test_pairs_that_are_new_each_epoch_are_refused(opened):
    source, _, open_states = opened
    changing = PhotoPairs(
        [PhotoSet(source.photos)], augment_image=RandomAugmentation(32, operations=0)
    )
    assert changing.fixed_variants is None
    with pytest.raises(UsageError, match="new ones in each epoch"):
        open_states(changing)
