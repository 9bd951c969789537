import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from retrieval.encoders.base import Encoder
from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.errors import EncoderUnavailableError, SpaceMismatchError, UsageError
from retrieval.library import create_library
from retrieval.media import Modality

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
    np.testing.assert_allclose(tiny_encoder.encode(Modality.IMAGE, pixels[:1]), images, atol=1e-5)
    np.testing.assert_allclose(tiny_encoder.encode(Modality.TEXT, TEXTS), texts, atol=1e-5)


def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(tiny_encoder, pixels):
    images, texts = (
        tiny_encoder.encode(Modality.IMAGE, pixels),
        tiny_encoder.encode(Modality.TEXT, TEXTS),
    )
    for vectors, one in (
        (images, tiny_encoder.encode(Modality.IMAGE, pixels[1:2])[0]),
        (texts, tiny_encoder.encode(Modality.TEXT, TEXTS[1:2])[0]),
    ):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(vectors[1], one, atol=1e-5)


def test_bfloat16_is_near_and_has_a_space_of_its_own(tiny_encoder, pixels):
    encoder = OpenClipEncoder(f"{tiny_encoder.space.encoder}@bf16")
    assert encoder.space.encoder == f"{tiny_encoder.space.encoder}@bf16"
    assert encoder.space.weights == tiny_encoder.space.weights
    assert encoder.space.id != tiny_encoder.space.id
    assert (encoder.runtime, tiny_encoder.runtime) == ("PyTorch bfloat16", "PyTorch float32")
    for modality, inputs in ((Modality.IMAGE, pixels), (Modality.TEXT, TEXTS)):
        found, exact = (each.encode(modality, inputs) for each in (encoder, tiny_encoder))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        cosines = (found * exact).sum(axis=1)
        assert cosines.min() > 0.99
        assert cosines.min() < 1 - 1e-6
    assert encoder.text_tokens(TEXTS).values.dtype == np.float32
    assert encoder.image_tokens(pixels).values.dtype == np.float32


def test_nothing_gives_nothing(tiny_encoder, pixels):
    assert tiny_encoder.encode(Modality.TEXT, []).shape == (0, 32)
    assert tiny_encoder.encode(Modality.IMAGE, pixels[:0]).shape == (0, 32)
    assert tiny_encoder.text_tokens([]).values.shape == (0, 16, 32)
    assert tiny_encoder.image_tokens(pixels[:0]).values.shape == (0, 16, 64)


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


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        "",
        "  Skateboarding,   isn't it?\n",
        "a dog’s “ball”",
        "été İstanbul 🐕",
        "fish &amp; chips <b>today</b>",
        "word " * 40,
        "\xf0\xac\xa2",  # its last two letters alone look like broken UTF-8
    ],
)
def test_spans_go_with_the_tokens(text, tiny_encoder):
    spans = tiny_encoder.token_spans(text)
    assert len(spans) == int(tiny_encoder.text_tokens([text]).mask.sum())
    assert spans[0] == spans[-1] == (0, 0)
    for start, end in spans[1:-1]:
        assert 0 <= start < end <= len(text)
    starts = [start for start, _ in spans[1:-1]]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, on  snow", ["A", "dog", ",", "on", "snow"]),
        ("Don't run", ["Don", "'t", "run"]),
        ("a dog’s ball", ["a", "dog", "’s", "ball"]),
        ("the İ dog", ["the", "İ", "dog"]),
    ],
)
def test_spans_point_at_the_words(text, words, tiny_encoder):
    spans = tiny_encoder.token_spans(text)[1:-1]
    assert [text[start:end] for start, end in dict.fromkeys(spans)] == words


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (150, 150), (250, 40), (33, 247)])
def test_the_view_is_what_preprocessing_keeps(size, tiny_encoder):
    left, top, right, bottom = tiny_encoder.view(*size)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    black, white = (
        tiny_encoder.preprocess(Image.new("RGB", size, colour))[0].mean()
        for colour in ("black", "white")
    )
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    for places, low, high, axis in ((columns, left, right, 1), (rows, top, bottom, 0)):
        image = Image.fromarray(np.repeat(places[:, :, None], 3, axis=2).astype(np.uint8))
        line = tiny_encoder.preprocess(image)[0].mean(1 - axis)
        line = 255 * (line - black) / (white - black)
        step = (high - low) / 32
        # A pixel's value is its place, its centre half a pixel further.
        centres = low + step * (np.arange(32) + 0.5) - 0.5
        # Resizing rounds to whole pixels before cropping, and blurs a step or so at the rim.
        np.testing.assert_allclose(line, centres, atol=step + 1)


@pytest.mark.parametrize("mode", ["squash", "longest"])
def test_the_view_follows_the_resize_mode(mode, tiny_checkpoint, tmp_path):
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    config = json.loads((directory / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"resize_mode": mode}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    encoder = OpenClipEncoder(f"local-dir:{directory}")
    expected = (0, 0, 60, 20) if mode == "squash" else (0, -20, 60, 40)
    assert encoder.view(60, 20) == expected
    band = np.zeros((20, 60, 3), np.uint8)
    band[:, 30:] = 255
    line = encoder.preprocess(Image.fromarray(band))[0][16]
    assert line[4] < line[28]
    assert np.abs(np.diff(line)).argmax() == pytest.approx(15, abs=1)


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
    assert encoder.encode(Modality.TEXT, ["a dog"]).shape == (1, encoder.space.dimension)


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


@pytest.fixture
def strange(tiny_checkpoint, tmp_path):
    """A checkpoint with code of a stranger, by what its configuration adds; and the code's mark."""
    mark = tmp_path / "the code ran"

    def make(model_config: dict):
        directory = tmp_path / "strange"
        shutil.copytree(tiny_checkpoint, directory)
        config = json.loads((directory / "open_clip_config.json").read_text())
        for section, options in model_config.items():
            config["model_cfg"].setdefault(section, {}).update(options)
        (directory / "open_clip_config.json").write_text(json.dumps(config))
        code = {"AutoTokenizer": ["strange.T", None], "AutoConfig": "strange.C"}
        for name, facts in (
            ("tokenizer_config.json", {"auto_map": code, "tokenizer_class": "T"}),
            ("config.json", {"auto_map": code, "model_type": "strange"}),
        ):
            (directory / name).write_text(json.dumps(facts))
        (directory / "strange.py").write_text(
            f"open({str(mark)!r}, 'w')\nclass T: ...\nclass C: ..."
        )
        return directory

    return make, mark


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}, "'trust_remote_code'"),
        ({"text_cfg": {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}}, "'bpe_path'"),
        ({"text_cfg": {"tokenizer_kwargs": 1}}, "no configuration of open_clip"),
        ({"text_cfg": {"hf_tokenizer_name": "any"}}, "custom code"),
        ({"text_cfg": {"hf_model_name": "{directory}"}}, "names the text tower"),
        ({"text_cfg": {"hf_model_name": "../strange"}}, "names the text tower"),
        ({"vision_cfg": {"timm_model_name": "hf-hub:somebody/model"}}, "names the image tower"),
    ],
)
def test_a_checkpoint_runs_no_code(strange, options, message, tmp_path, capfd):
    make, mark = strange
    for section in options.values():
        if "hf_model_name" in section:
            section["hf_model_name"] = section["hf_model_name"].format(directory=tmp_path)
    with pytest.raises(EncoderUnavailableError, match=message):
        OpenClipEncoder(f"local-dir:{make(options)}")
    assert not mark.exists()
    assert "Do you wish to run" not in "".join(capfd.readouterr())


def test_weights_are_compared_before_the_tokenizer_is_read(strange, tiny_encoder):
    make, _ = strange
    directory = make({"text_cfg": {"hf_tokenizer_name": "any"}})
    with pytest.raises(SpaceMismatchError, match="xxh3-128:00"):
        OpenClipEncoder(f"local-dir:{directory}", weights="xxh3-128:00")
    with pytest.raises(EncoderUnavailableError, match="custom code"):
        OpenClipEncoder(f"local-dir:{directory}", weights=tiny_encoder.space.weights)


@pytest.fixture
def strange_library(strange, tiny_encoder):
    """A library whose encoder lies within it, and asks for its code to be run."""
    make, _ = strange
    directory = make({"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}})
    encoder = f"local-dir:{directory.parent}/library/thumbnails/model"
    space = dataclasses.replace(tiny_encoder.space, encoder=encoder)
    library = create_library(directory.parent / "library", space)
    directory.rename(library.thumbnails / "model")
    return library


@pytest.mark.slow
def test_a_library_from_a_stranger_runs_no_code_by_any_way(
    strange_library, strange, tmp_path, monkeypatch
):
    _, mark = strange
    # Whoever allows the folder by name runs nothing of it either.
    model = strange_library.space().encoder.removeprefix("local-dir:")
    monkeypatch.setenv("MMSEARCH_TRUSTED", model)
    with pytest.raises(EncoderUnavailableError, match="trust_remote_code"):
        strange_library.search("a dog")
    app = create_app(strange_library.path, device="cpu")
    with pytest.raises(EncoderUnavailableError, match="trust_remote_code"), TestClient(app):
        pass  # the service does not start
    program = [sys.executable, "-c", "from api.cli import main; main()", "search", "a dog"]
    run = subprocess.run(
        [*program, "--library", strange_library.path],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 1
    assert "trust_remote_code" in run.stderr
    assert "Traceback" not in run.stderr
    assert not mark.exists()
