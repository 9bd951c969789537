import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.base import Encoder
from retrieval.encoders.starter_first import HEADS_FILE, FirstStarterEncoder
from retrieval.encoders.towers import ImageTower
from retrieval.errors import EncoderUnavailableError
from retrieval.media import Modality
from retrieval.training.validation import recalls

pytestmark = pytest.mark.slow

TEXTS = [
    "a dog runs over the wet sand with a red ball in its mouth",
    "snow",
    "",
    "two men in a boat",
    "word " * 300,
    "a cat",
]


@pytest.fixture(scope="module")
def encoder() -> FirstStarterEncoder:
    return FirstStarterEncoder()


@pytest.fixture(scope="module")
def pixels(encoder: FirstStarterEncoder, photos: dict[str, Path]) -> np.ndarray:
    """All of scikit-image's photos that show one thing, as network input."""
    return np.stack([encoder.preprocess(Image.open(path)) for path in photos.values()])


def test_is_an_encoder(encoder: FirstStarterEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.space.dimension == 512
    assert encoder.context_length == 128


def test_the_space_is_stable_and_named_after_the_weights(encoder: FirstStarterEncoder) -> None:
    assert FirstStarterEncoder().space == encoder.space
    assert encoder.space.encoder == "starter"
    assert encoder.space.weights.startswith("sha256:")


def test_the_space_is_known_without_loading_torch() -> None:
    code = (
        "import sys; from retrieval.encoders.starter_first import FirstStarterEncoder; "
        "print(FirstStarterEncoder().space.id, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [FirstStarterEncoder().space.id, "False"]


def test_a_text_query_loads_neither_timm_nor_transformers() -> None:
    code = (
        "import sys; from retrieval.encoders.starter_first import FirstStarterEncoder; "
        "from retrieval.media import Modality; "
        "FirstStarterEncoder().encode(Modality.TEXT, ['a cat']); "
        "print([name for name in ('timm', 'transformers', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_photos_find_their_names(encoder: FirstStarterEncoder, photos: dict[str, Path]) -> None:
    # Astronauts, rocket launches and the moon are beyond it (see its model card).
    queries = {"cat": "a cat", "coffee": "a cup of coffee", "motorcycle": "a motorcycle"}
    names = list(photos)
    images = encoder.encode(
        Modality.IMAGE, np.stack([encoder.preprocess(Image.open(path)) for path in photos.values()])
    )
    for expected, query in queries.items():
        similarity = encoder.encode(Modality.TEXT, [query])[0] @ images.T
        assert names[int(similarity.argmax())] == expected, query


def test_vectors_are_float32_and_of_unit_norm(
    encoder: FirstStarterEncoder, pixels: np.ndarray
) -> None:
    for vectors in (encoder.encode(Modality.IMAGE, pixels), encoder.encode(Modality.TEXT, TEXTS)):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == 512
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_preprocessing_takes_any_size_and_mode(encoder: FirstStarterEncoder) -> None:
    for size, mode in [((1, 1), "RGB"), ((3000, 20), "RGB"), ((40, 50), "L"), ((40, 50), "RGBA")]:
        out = encoder.preprocess(Image.new(mode, size))
        assert out.shape == (260, 260, 3)
        assert out.dtype == np.uint8


def test_images_do_not_depend_on_their_batch(
    encoder: FirstStarterEncoder, pixels: np.ndarray
) -> None:
    many = np.concatenate([pixels] * 7)
    together = encoder.encode(Modality.IMAGE, many)
    for number in range(len(pixels)):
        alone = encoder.encode(Modality.IMAGE, pixels[number : number + 1])[0]
        np.testing.assert_allclose(together[number], alone, atol=1e-5)
        np.testing.assert_allclose(together[-len(pixels) + number], alone, atol=1e-5)


def test_texts_keep_their_order_and_do_not_depend_on_padding(encoder: FirstStarterEncoder) -> None:
    together = encoder.encode(Modality.TEXT, TEXTS * 20)
    alone = np.concatenate([encoder.encode(Modality.TEXT, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, np.tile(alone, (20, 1)), atol=1e-5)


def test_encoding_twice_gives_the_same(encoder: FirstStarterEncoder, pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(
        encoder.encode(Modality.IMAGE, pixels), encoder.encode(Modality.IMAGE, pixels)
    )
    np.testing.assert_array_equal(
        encoder.encode(Modality.TEXT, TEXTS), encoder.encode(Modality.TEXT, TEXTS)
    )


def test_no_input_gives_no_vectors(encoder: FirstStarterEncoder) -> None:
    nothing = np.empty((0, 260, 260, 3), np.uint8)
    assert encoder.encode(Modality.IMAGE, nothing).shape == (0, 512)
    assert encoder.encode(Modality.TEXT, []).shape == (0, 512)
    assert encoder.image_tokens(nothing).values.shape == (0, 81, 734)
    assert encoder.text_tokens([]).mask.shape == (0, 0)


def test_texts_past_the_context_are_cut(encoder: FirstStarterEncoder) -> None:
    same = encoder.encode(Modality.TEXT, ["word " * 126, "word " * 400])
    np.testing.assert_allclose(same[0], same[1], atol=1e-5)
    assert encoder.token_count("word " * 400) == 402
    assert encoder.token_count("a cat") == 4
    assert encoder.token_count("") == 2


def test_image_tokens_end_with_the_map(encoder: FirstStarterEncoder, pixels: np.ndarray) -> None:
    tokens = encoder.image_tokens(pixels)
    assert tokens.values.shape == (len(pixels), 81, 734)
    assert tokens.values.dtype == np.float32
    assert tokens.mask.all()
    maps = ImageTower()(pixels).map.numpy()
    np.testing.assert_allclose(tokens.values[..., -352:] * 2.4, maps, atol=1e-3)


def test_image_tokens_begin_with_the_colours_of_their_places(encoder: FirstStarterEncoder) -> None:
    image = np.zeros((1, 260, 260, 3), np.uint8)
    image[:, :, 130:, 0] = 255
    grid = encoder.image_tokens(image).values.reshape(9, 9, 734)
    red, green = grid[..., 0], grid[..., 1]
    assert red[:, :4].max() < -2 < 2 < red[:, 5:].min()
    assert np.ptp(green) == 0
    spread = grid[..., 3]
    assert spread[:, 4].min() > 2
    assert spread[:, [0, 8]].max() < 0.1


def test_text_tokens_are_masked_and_zero_where_absent(encoder: FirstStarterEncoder) -> None:
    tokens = encoder.text_tokens(TEXTS)
    counts = [min(encoder.token_count(text), 128) for text in TEXTS]
    assert tokens.mask.sum(1).tolist() == counts
    assert tokens.values.shape == (len(TEXTS), 128, 384)
    assert (tokens.values[~tokens.mask] == 0).all()
    alone = encoder.text_tokens([TEXTS[3]]).values[0]
    np.testing.assert_allclose(tokens.values[3, : len(alone)], alone, atol=1e-5)


SPANNED = [
    *TEXTS,
    "Skateboarding, isn't it?",
    "雪の中の犬",
    "été  à la   plage\n",
    "собака 🐕 &amp; <b>cat</b>",
]


@pytest.mark.parametrize("text", SPANNED)
def test_spans_go_with_the_tokens(encoder: FirstStarterEncoder, text: str) -> None:
    spans = encoder.token_spans(text)
    assert len(spans) == int(encoder.text_tokens([text]).mask.sum())
    assert spans[0] == spans[-1] == (0, 0)
    starts = [start for start, _ in spans[1:-1]]
    assert starts == sorted(starts)
    for start, end in spans[1:-1]:
        assert 0 <= start < end <= len(text)
        assert text[start:end].strip() == text[start:end]
    covered = {place for start, end in spans for place in range(start, end)}
    if len(spans) < encoder.context_length:
        assert covered == {place for place, char in enumerate(text) if not char.isspace()}


def test_spans_point_at_the_words(encoder: FirstStarterEncoder) -> None:
    text = "A dog, skateboarding Été"
    words = [text[start:end] for start, end in encoder.token_spans(text)[1:-1]]
    assert words[:3] == ["A", "dog", ","]
    assert "".join(words) == "Adog,skateboardingÉté"
    assert len(words) > 5


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (150, 150), (250, 30), (31, 247)])
def test_the_view_is_what_preprocessing_keeps(
    encoder: FirstStarterEncoder, size: tuple[int, int]
) -> None:
    left, top, right, bottom = encoder.view(*size)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    for places, low, high, axis in ((columns, left, right, 1), (rows, top, bottom, 0)):
        image = Image.fromarray(np.repeat(places[:, :, None], 3, axis=2).astype(np.uint8))
        line = encoder.preprocess(image)[:, :, 0].mean(1 - axis)
        step = (high - low) / 260
        # A pixel's value is its place, its centre half a pixel further.
        centres = low + step * (np.arange(260) + 0.5) - 0.5
        np.testing.assert_allclose(line, centres, atol=1.5)


def test_a_mean_side_is_kept_of_the_longer_one(encoder: FirstStarterEncoder) -> None:
    assert encoder.view(200, 50) == (50, 0, 150, 50)
    assert encoder.view(50, 200) == (0, 50, 50, 150)
    assert encoder.view(70, 70) == (0, 0, 70, 70)


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_retrieval_quality_has_a_floor(encoder: FirstStarterEncoder, shared_data: Path) -> None:
    folder = shared_data / "flickr8k"
    rows = [row for row in _rows(folder) if row["split"] == "val"][::5]
    pixels = np.stack(
        [encoder.preprocess(Image.open(folder / "images" / row["image"])) for row in rows]
    )
    captions = [text for row in rows for text in row["en"]]
    measured = recalls(
        torch.from_numpy(encoder.encode(Modality.IMAGE, pixels)),
        torch.from_numpy(encoder.encode(Modality.TEXT, captions)),
        torch.arange(len(rows)).repeat_interleave(5),
    )
    assert measured.text_to_image[0] >= 0.42
    assert measured.text_to_image[2] >= 0.85
    assert measured.image_to_text[0] >= 0.5


def test_damaged_heads_are_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "heads.safetensors"
    content = bytearray(HEADS_FILE.read_bytes())
    content[-100] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match="damaged"):
        FirstStarterEncoder(heads=damaged)


@pytest.mark.parametrize("content", [b"", b"12345678", b"\x02\0\0\0\0\0\0\0{}", b"x" * 5000])
def test_other_files_are_not_taken_for_heads(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "heads.safetensors"
    other.write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match="not a weight file"):
        FirstStarterEncoder(heads=other)


def test_missing_heads_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match="Reinstall"):
        FirstStarterEncoder(heads=tmp_path / "nothing.safetensors")
