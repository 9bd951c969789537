"""The CLAP encoder beside what transformers itself computes, on tiny random checkpoints."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders import hub
from retrieval.encoders.registry import load_encoder
from retrieval.encoders.trust import path_of_encoder
from retrieval.errors import EncoderUnavailableError, SpaceMismatchError, UsageError
from retrieval.media import Modality, SoundInput
from tests.tiny_clap import RATE, make_clap, tones

transformers = pytest.importorskip("transformers", reason="CLAP is a model of transformers")
torch = pytest.importorskip("torch")

TEXTS = ["rain", "a dog barking and the sea", "two bell music"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("clap")
    for name, fusion in (("plain", False), ("fused", True)):
        make_clap(base / name, fusion=fusion)
    return base


@pytest.fixture(scope="module", params=["plain", "fused"])
def checkpoint(request, folders):
    return folders / request.param


def test_vectors_are_those_of_transformers(checkpoint):
    encoder = load_encoder(f"clap:{checkpoint}", "cpu")
    windows = [tones(440), tones(900), tones(2000)[: RATE // 3]]
    model = transformers.ClapModel.from_pretrained(checkpoint).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    with torch.inference_mode():
        features = extractor(windows, sampling_rate=RATE, return_tensors="pt")
        features["is_longer"][:] = False  # else chosen at random
        sounds = model.get_audio_features(**features).pooler_output.numpy()
        tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
        texts = model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output.numpy()
    np.testing.assert_allclose(encoder.encode(Modality.AUDIO, windows), sounds, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(Modality.TEXT, TEXTS), texts, atol=1e-5)


def test_a_sound_has_one_vector_however_it_is_batched(checkpoint):
    encoder = load_encoder(f"clap:{checkpoint}", "cpu")
    windows = [tones(pitch) for pitch in range(300, 2100, 200)]
    together = encoder.encode(Modality.AUDIO, windows)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode(Modality.AUDIO, [one]) for one in windows])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(Modality.AUDIO, windows), together)
    assert encoder.encode(Modality.AUDIO, []).shape == (0, encoder.space.dimension)


def test_it_says_what_it_takes(folders):
    encoder = load_encoder(f"clap:{folders / 'plain'}", "cpu")
    assert encoder.modalities == {Modality.AUDIO, Modality.TEXT}
    assert encoder.sound_input == SoundInput(RATE, RATE)
    assert encoder.context_length == 48
    assert encoder.token_count("rain and sea") == 5
    with pytest.raises(UsageError, match="takes audio and text, not image"):
        encoder.encode(Modality.IMAGE, [])
    with pytest.raises(UsageError, match="not image"):
        encoder.preprocess(Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="samples"):
        encoder.encode(Modality.AUDIO, [np.zeros(RATE + 1, np.float32)])


def test_its_space_is_that_of_weights_and_preprocessing(folders, tmp_path):
    name = f"clap:{folders / 'plain'}"
    space = load_encoder(name, "cpu").space
    assert load_encoder(name, "cpu", space.weights).space == space
    with pytest.raises(SpaceMismatchError, match="differ"):
        load_encoder(name, "cpu", "xxh3-128:0")
    other = tmp_path / "other"
    shutil.copytree(folders / "plain", other)
    file = other / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hop_length": 200}))
    changed = load_encoder(f"clap:{other}", "cpu").space
    assert changed.weights == space.weights
    assert changed.preprocessing != space.preprocessing


def test_a_checkpoint_may_not_choose_everything(folders, tmp_path):
    for setting, value in {"max_length_s": 10**6, "truncation": "none", "hop_length": 0}.items():
        folder = tmp_path / setting
        shutil.copytree(folders / "plain", folder)
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {setting: value}))
        with pytest.raises(EncoderUnavailableError, match=setting):
            load_encoder(f"clap:{folder}", "cpu")
    pickled = tmp_path / "pickled"
    shutil.copytree(folders / "plain", pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(EncoderUnavailableError, match="safetensors"):
        load_encoder(f"clap:{pickled}", "cpu")
    foreign = tmp_path / "foreign"
    shutil.copytree(folders / "plain", foreign)
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(EncoderUnavailableError, match="'bert'"):
        load_encoder(f"clap:{foreign}", "cpu")


def test_a_name_that_is_nowhere_says_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        load_encoder("clap:./nowhere", "cpu")
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)
    with pytest.raises(EncoderUnavailableError, match="hub does not answer"):
        load_encoder("clap:laion/no-such-clap", "cpu")


def test_a_folder_of_a_library_is_read_only_if_it_was_named(tmp_path):
    assert path_of_encoder(f"clap:{tmp_path}") == tmp_path
    assert path_of_encoder("clap:laion/clap-htsat-unfused") is None


def test_an_index_of_weights_may_not_name_pickles(tmp_path):
    from safetensors.torch import load_file

    make_clap(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "weights.bin")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "weights.bin")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EncoderUnavailableError, match="not in safetensors format"):
        load_encoder(f"clap:{tmp_path}")
