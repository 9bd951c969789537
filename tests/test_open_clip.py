import json
import shutil

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.base import Encoder
from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.errors import EncoderUnavailableError, UsageError

TEXTS = ["a dog", "two cats on a mat, asleep", "雪の中の犬", "x"]


@pytest.fixture
def pixels(tiny_encoder):
    noise = np.random.default_rng(0).integers(0, 256, (3, 50, 40, 3), dtype=np.uint8)
    return np.stack([tiny_encoder.preprocess(Image.fromarray(image)) for image in noise])


def test_it_keeps_the_protocol(tiny_encoder):
    assert isinstance(tiny_encoder, Encoder)


def test_vectors_are_those_of_open_clip_itself(tiny_encoder, tiny_checkpoint, pixels):
    import open_clip
    import torch

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tiny_checkpoint}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_checkpoint}")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    with torch.inference_mode():
        images = model.encode_image(transform(noise)[None], normalize=True).numpy()
        texts = model.encode_text(tokenizer(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(tiny_encoder.encode_images(pixels[:1]), images, atol=1e-5)
    np.testing.assert_allclose(tiny_encoder.encode_texts(TEXTS), texts, atol=1e-5)


def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(tiny_encoder, pixels):
    images, texts = tiny_encoder.encode_images(pixels), tiny_encoder.encode_texts(TEXTS)
    for vectors, one in (
        (images, tiny_encoder.encode_images(pixels[1:2])[0]),
        (texts, tiny_encoder.encode_texts(TEXTS[1:2])[0]),
    ):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(vectors[1], one, atol=1e-5)


def test_nothing_gives_nothing(tiny_encoder, pixels):
    assert tiny_encoder.encode_texts([]).shape == (0, 32)
    assert tiny_encoder.encode_images(pixels[:0]).shape == (0, 32)


def test_tokens_are_masked_where_there_is_no_text(tiny_encoder, pixels):
    tokens = tiny_encoder.text_tokens(TEXTS)
    assert tokens.values.shape == (4, 16, 32)
    assert tokens.mask.sum(axis=1).tolist() == [
        min(16, tiny_encoder.token_count(text)) for text in TEXTS
    ]
    assert (tokens.values[~tokens.mask] == 0).all()
    image = tiny_encoder.image_tokens(pixels)
    assert image.values.shape == (3, 16, 64)
    assert image.mask.all()


def test_the_space_is_stable_and_follows_the_weights(tiny_encoder, tiny_checkpoint, tmp_path):
    from safetensors.numpy import load_file, save_file

    again = OpenClipEncoder(f"local-dir:{tiny_checkpoint}")
    assert again.space == tiny_encoder.space
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    weights = load_file(other / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"] + 1e-3
    save_file(weights, other / "open_clip_model.safetensors")
    assert OpenClipEncoder(f"local-dir:{other}").space.weights != tiny_encoder.space.weights


def test_a_checkpoint_file_of_a_known_model(tmp_path):
    import open_clip
    import torch

    model = open_clip.create_model("ViT-S-32-alt")
    checkpoint = tmp_path / "mine.pt"
    torch.save(model.state_dict(), checkpoint)
    encoder = OpenClipEncoder(f"open_clip:ViT-S-32-alt/{checkpoint}")
    assert encoder.space.encoder == f"open_clip:ViT-S-32-alt/{checkpoint}"
    assert encoder.encode_texts(["a dog"]).shape == (1, encoder.space.dimension)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:", "not of the form"),
        ("open_clip:ViT-B-32", "not of the form"),
        ("open_clip:NoSuchModel/openai", "has no model 'NoSuchModel'"),
        ("open_clip:ViT-B-32/nonsense", "neither a file nor a pretrained tag of ViT-B-32"),
        ("local-dir:/nowhere", "has no open_clip_config.json"),
    ],
)
def test_names_that_cannot_be_meant(name, message):
    with pytest.raises(UsageError, match=message):
        OpenClipEncoder(name)


def test_a_directory_without_weights_is_refused(tiny_checkpoint, tmp_path):
    shutil.copy(tiny_checkpoint / "open_clip_config.json", tmp_path)
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        OpenClipEncoder(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("damage", ["weights", "config"])
def test_a_damaged_checkpoint_is_refused(damage, tiny_checkpoint, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, directory)
    if damage == "weights":
        file = directory / "open_clip_model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    else:
        (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}}))
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        OpenClipEncoder(f"local-dir:{directory}")
