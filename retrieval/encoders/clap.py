"""CLAP models of `transformers`: sound and text in one space."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Inputs, Pixels, Space, Vectors, cannot_encode
from retrieval.encoders.checkpoints import CheckpointKind, read_config
from retrieval.encoders.modalities import CLAP, modalities_of
from retrieval.errors import EncoderUnavailableError, SpaceMismatchError
from retrieval.media import Modality, SoundInput
from retrieval.media.audio import Samples

EXAMPLE = "laion/clap-htsat-unfused"

_KIND = CheckpointKind(
    CLAP.removesuffix(":"),
    "--encoder",
    EXAMPLE,
    "use another encoder (`mmsearch encoders` lists them)",
)

_CONTEXT_LENGTH = 77
"""Tokens of the texts that LAION's CLAP was trained with (`tokenizer`, `max_length=77`)."""

_SOUNDS_PER_BATCH = 8
_TEXTS_PER_BATCH = 64

_RATES = range(4_000, 192_001)
_MOST_SECONDS = 60
_MOST_BINS = 1_024
"""Limits of what a checkpoint may ask for."""


class ClapEncoder:
    """A CLAP model (Wu et al. 2023) behind the encoder protocol.

    `name` is `clap:REPOSITORY` of the model hub or `clap:DIR`, a folder as `save_pretrained` writes
    it, with the processor's files; weights are read from safetensors files only. The local cache of
    the hub is used before the network. `weights` is the checksum that they must have.

    A window of sound is as long as the model hears at once (10 s at 48 kHz for LAION's models):
    CLAP was trained on random crops of that length, and `ClapFeatureExtractor` crops longer sounds
    at random, so that only windows that are no longer have the same vector each time. Shorter ones
    are repeated and padded as the checkpoint says (`repeatpad`). Of models with feature fusion no
    window is fused: that is for longer sounds, and the extractor would choose one of each batch at
    random.

    A checkpoint from a stranger is data: no code in it is run. Raises UsageError for a name that is
    neither a folder nor a hub repository, EncoderUnavailableError when the checkpoint cannot be had
    or is none of CLAP, SpaceMismatchError for weights of another checksum.
    """

    modalities = modalities_of(CLAP)
    input_side = 224
    """Of no use, as no pictures are taken: what reads one to refuse it then reduces it to this."""

    def __init__(self, name: str, device: str = "cpu", weights: str | None = None) -> None:
        checkpoint = name.removeprefix(CLAP)
        folder = _KIND.local_folder(checkpoint)
        name = f"{CLAP}{folder or checkpoint}"
        folder = folder or _KIND.hub_folder(checkpoint)
        model, self._extractor, self._tokenizer = _load(name, folder, weights)
        # RoBERTa counts positions from behind that of its padding.
        first = int(self._tokenizer.pad_token_id) + 1
        positions = int(model.config.text_config.max_position_embeddings) - first
        longest = int(self._tokenizer.model_max_length)
        self.context_length = min(_CONTEXT_LENGTH, longest, positions)
        self.sound_input = SoundInput(
            int(self._extractor.sampling_rate), int(self._extractor.nb_max_samples)
        )
        self.space = Space(
            encoder=name,
            weights=_checksum(model),
            preprocessing=_preprocessing(self._extractor, self._tokenizer, self.context_length),
            dimension=int(model.config.projection_dim),
        )
        self._device = torch.device(device)
        self._model = model.to(self._device)
        self.runtime = "PyTorch float32"

    def preprocess(self, image: Image.Image) -> Pixels:
        """Raise UsageError: it takes no pictures."""
        raise cannot_encode(self, Modality.IMAGE)

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        """Encode n windows of sound or n strings -> (n, d), unit L2 norm."""
        ways: dict[Modality, tuple[Callable[[Any], Vectors], int]] = {
            Modality.AUDIO: (self._encode_sounds, _SOUNDS_PER_BATCH),
            Modality.TEXT: (self._encode_texts, _TEXTS_PER_BATCH),
        }
        if modality not in ways:
            raise cannot_encode(self, modality)
        encode, size = ways[modality]
        with torch.inference_mode():
            vectors = [encode(inputs[n : n + size]) for n in range(0, len(inputs), size)]
        return np.concatenate([np.empty((0, self.space.dimension), np.float32), *vectors])

    def token_count(self, text: str) -> int:
        """Tokens of a text with the special ones, before truncation."""
        return len(self._tokenizer(text, verbose=False)["input_ids"])

    def _encode_sounds(self, windows: Sequence[Samples]) -> Vectors:
        longest = max(map(len, windows))
        if longest > self.sound_input.length:
            raise ValueError(f"A window has {longest} samples, not {self.sound_input.length}.")
        features = self._extractor(
            list(windows), sampling_rate=self.sound_input.rate, return_tensors="np"
        )["input_features"]
        outputs = self._model.get_audio_features(
            input_features=torch.from_numpy(np.asarray(features, np.float32)).to(self._device),
            is_longer=torch.zeros((len(windows), 1), dtype=torch.bool, device=self._device),
        )
        return _unit(outputs)

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        ).to(self._device)
        outputs = self._model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        return _unit(outputs)


def _load(name: str, folder: Path, weights: str | None) -> tuple[Any, Any, Any]:
    """Load model in float32, feature extractor and tokenizer from a folder."""
    with _KIND.loading(name, folder) as transformers:
        model_type = read_config(folder).get("model_type")
        if model_type != "clap":
            raise EncoderUnavailableError(
                f"{name} cannot be loaded: {folder} is a checkpoint of the type {model_type!r}, "
                f"not of CLAP. Use one such as {EXAMPLE}."
            )
        model, report = transformers.ClapModel.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
        _KIND.require_weights(name, folder, report["missing_keys"])
        model = model.float().eval()
        checksum = _checksum(model)
        if weights not in {None, checksum}:
            raise SpaceMismatchError(
                f"The weights of {name} differ from those of the library: their checksum is "
                f"{checksum}, not {weights}. Vectors of two spaces cannot be compared. Restore "
                "those weights, or index into a new library (`--library NEW_DIR`)."
            )
        extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
        _check(name, extractor)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return model, extractor, tokenizer


def _check(name: str, extractor: Any) -> None:
    """Refuse a feature extractor whose settings no model needs."""
    settings = {
        "sampling_rate": extractor.sampling_rate in _RATES,
        "max_length_s": 0 < extractor.max_length_s <= _MOST_SECONDS,
        "feature_size": 0 < extractor.feature_size <= _MOST_BINS,
        "hop_length": extractor.hop_length > 0,
        "truncation": extractor.truncation in {"fusion", "rand_trunc"},
        "padding": extractor.padding in {"repeatpad", "repeat", "pad"},
    }
    for setting, is_valid in settings.items():
        if not is_valid:
            raise EncoderUnavailableError(
                f"{name} cannot be loaded: its feature extractor has the {setting} "
                f"{getattr(extractor, setting)!r}."
            )


def _checksum(model: Any) -> str:
    digest = xxhash.xxh3_128()
    for key, tensor in model.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return f"xxh3-128:{digest.hexdigest()}"


def _preprocessing(extractor: Any, tokenizer: Any, context_length: int) -> str:
    """Name each step from samples or a text to the network's input."""
    settings = extractor.to_dict()
    names = (
        *("sampling_rate", "nb_max_samples", "feature_size", "fft_window_size", "hop_length"),
        *("frequency_min", "frequency_max", "top_db", "truncation", "padding", "padding_value"),
    )
    words = xxhash.xxh3_128_hexdigest(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    return json.dumps(
        {
            "windows": "mono, side by side, the last one ends with the sound",
            "sound": {name: settings.get(name) for name in names},
            "text": [type(tokenizer).__name__, words, context_length],
        },
        sort_keys=True,
    )


def _unit(outputs: Any) -> NDArray[np.float32]:
    """Scale features to unit length; a tensor, or since transformers 5 an output that has it."""
    features = outputs if isinstance(outputs, torch.Tensor) else outputs.pooler_output
    return cast(
        "NDArray[np.float32]",
        torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy(),
    )
