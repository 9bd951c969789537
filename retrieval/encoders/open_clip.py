"""Any model of open_clip, with its own preprocessing and tokenizer."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders import hub
from retrieval.encoders.base import REDUCTION, ImageTextEncoder, Pixels, Space, Tokens, Vectors
from retrieval.encoders.exports.store import BF16, LOCAL_DIR, OPEN_CLIP, canonical_name
from retrieval.encoders.quiet_log import quiet_log
from retrieval.errors import EncoderUnavailableError, SpaceMismatchError, UsageError

_T = TypeVar("_T")

_CONFIG = "open_clip_config.json"
_TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language"})
"""Those that open_clip takes for itself; it passes all others on to `transformers`."""

_TEXTS_PER_BATCH = 64


class OpenClipEncoder(ImageTextEncoder):
    """An open_clip model behind the encoder protocol.

    `name` is `open_clip:MODEL/PRETRAINED`, where PRETRAINED is a tag of open_clip or the path of a
    checkpoint file, or `local-dir:DIR`, a directory as open_clip saves it. Weights come from the
    local cache, else from the hub. `weights` is the checksum that they must have.

    A name that ends with `@bf16` computes in bfloat16, on CPUs that have it twice as fast as in
    float32; such vectors have a space of their own.

    A checkpoint from a stranger is data: no code in it is run. Raises UsageError for a name that
    cannot be meant, EncoderUnavailableError when the weights cannot be had or the configuration
    asks for what a checkpoint may not, SpaceMismatchError for weights of another checksum.
    """

    def __init__(self, name: str, device: str = "cpu", weights: str | None = None) -> None:
        precision = BF16 if name.endswith(BF16) else ""
        model_name, pretrained = _parse(name.removesuffix(BF16))
        name = f"{OPEN_CLIP}{model_name}/{pretrained}" if pretrained else model_name
        model, transform, tokenizer, checksum = _load(name, model_name, pretrained, weights)
        self._device = torch.device(device)
        self._transform = transform
        self._tokenizer = tokenizer
        self.context_length = int(tokenizer.context_length)
        size = model.visual.image_size
        self.input_side = int(min(size) if isinstance(size, tuple | list) else size)
        self.space = _describe(f"{name}{precision}", model, tokenizer, checksum)
        self._dtype = torch.bfloat16 if precision else torch.float32
        self.runtime = f"PyTorch {str(self._dtype).removeprefix('torch.')}"
        self._model = model.eval().to(self._device, self._dtype)

    @property
    def parts(self) -> tuple[Any, Any]:
        """Return model and tokenizer of open_clip, for an export."""
        return self._model, self._tokenizer

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the model's own transform; (3, height, width) float32."""
        pixels: Pixels = self._transform(image).numpy()
        return pixels

    def _encode_images(self, pixels: Pixels) -> Vectors:
        if len(pixels) == 0:
            return np.empty((0, self.space.dimension), np.float32)
        with torch.inference_mode():
            return _unit(self._model.encode_image(self._tensor(pixels), normalize=False))

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        with torch.inference_mode():
            batches = [
                _unit(self._model.encode_text(ids, normalize=False))
                for ids in self._token_ids(texts)
            ]
        return np.concatenate([np.empty((0, self.space.dimension), np.float32), *batches])

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Last block's spatial outputs, row by row of the patch grid."""
        if len(pixels) == 0:
            one = self.image_tokens(np.zeros((1, *pixels.shape[1:]), np.float32))
            return Tokens(one.values[:0], one.mask[:0])
        with torch.inference_mode():
            grid = self._last_block("image", self._tensor(pixels))
        values = _numpy(grid.flatten(2).transpose(1, 2))
        return Tokens.all_present(values)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Last block's outputs at each token, padding masked."""
        if not texts:
            one = self.text_tokens([""])
            return Tokens(one.values[:0], one.mask[:0])
        with torch.inference_mode():
            batches = [_numpy(self._last_block("text", ids)) for ids in self._token_ids(texts)]
        values = np.concatenate(batches)
        lengths = np.array([self.token_count(text) for text in texts])
        return Tokens.padded(values, lengths)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's tokens in it; (0, 0) for special ones and padding.

        Of a text that the tokenizer's clean-up makes shorter or longer (markup, repeated spaces)
        the places after the change are off by as much.
        """
        if not hasattr(self._tokenizer, "encode"):
            clean = getattr(self._tokenizer, "clean_fn", str)
            spans = self._tokenizer.tokenizer(clean(text), return_offsets_mapping=True)
            found: list[tuple[int, int]] = [tuple(span) for span in spans["offset_mapping"]]
            return found[: self.context_length]
        # Usually the text as it is gives its tokens; cleaned up as a whole, it always does.
        for form in (text, self._tokenizer.clean_fn(text)):
            found = [(0, 0)]
            for piece in self._tokenizer.pat.finditer(form):
                found += [piece.span()] * len(self._tokenizer.encode(piece.group()))
            if len(found) + 1 == self.token_count(text):
                break
        return [*found[: self.context_length - 1], (0, 0)]

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that the transform keeps: left, top, right, bottom (px)."""
        mode = self._model.visual.preprocess_cfg.get("resize_mode", "shortest")
        if mode == "squash":
            return 0.0, 0.0, float(width), float(height)
        side = max(width, height) if mode == "longest" else min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def token_count(self, text: str) -> int:
        """Tokens of a text with the special ones, before truncation."""
        if hasattr(self._tokenizer, "encode"):  # open_clip's own CLIP tokenizer
            return len(self._tokenizer.encode(text)) + 2
        clean = getattr(self._tokenizer, "clean_fn", str)
        return len(self._tokenizer.tokenizer(clean(text))["input_ids"])

    def _last_block(self, side: str, inputs: torch.Tensor) -> torch.Tensor:
        return last_block(self._model, side, inputs, only_tokens=True)[1]

    def _tensor(self, pixels: Pixels) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device, self._dtype)

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokenize n texts; (n, context_length), cut and padded."""
        ids = [batch.cpu().numpy() for batch in self._token_ids(texts)]
        return np.concatenate([np.empty((0, self.context_length), np.int64), *ids])

    def _token_ids(self, texts: Sequence[str]) -> list[torch.Tensor]:
        return [
            self._tokenizer(list(texts[start : start + _TEXTS_PER_BATCH])).to(self._device)
            for start in range(0, len(texts), _TEXTS_PER_BATCH)
        ]


def last_block(
    model: Any, side: str, inputs: torch.Tensor, *, only_tokens: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a tower of an open_clip model; gives vectors and outputs of its last block.

    Args:
        model: of open_clip.
        side: `image` or `text`.
        inputs: pixels, (n, 3, height, width), or token ids, (n, t).
        only_tokens: the vectors are not needed, and may be empty.

    Returns:
        Unit vectors, (n, d), and maps (n, c, rows, columns) or tokens (n, t, c).
    """
    tower = getattr(model, "text", None)
    if side == "text" and tower is not None and not hasattr(tower, "forward_intermediates"):
        from retrieval.encoders.assembled import text_outputs  # open_clip imports PyTorch

        vectors, tokens = text_outputs(tower, inputs)
        return torch.nn.functional.normalize(vectors, dim=-1), tokens
    outputs = model.forward_intermediates(
        **{side: inputs, f"{side}_indices": 1},
        normalize_intermediates=True,
        intermediates_only=only_tokens,
    )
    [last] = outputs[f"{side}_intermediates"]
    return outputs.get(f"{side}_features", inputs[:0]), last


def _parse(name: str) -> tuple[str, str | None]:
    plain, name = name, canonical_name(name)
    if name.startswith(LOCAL_DIR):
        directory = Path(plain.removeprefix(LOCAL_DIR))
        if not (directory / _CONFIG).is_file():
            raise UsageError(
                f"{plain}: {directory} has no {_CONFIG}. Name a directory that "
                "open_clip's `push_to_hf_hub` or `save_for_hf` has written."
            )
        return name, None
    model_name, slash, pretrained = name.removeprefix(OPEN_CLIP).partition("/")
    if not slash or not model_name or not pretrained:
        raise UsageError(
            f"{plain!r} is not of the form open_clip:MODEL/PRETRAINED, for example "
            "open_clip:ViT-B-32/laion2b_s34b_b79k."
        )
    return model_name, pretrained


def _load(
    name: str, model_name: str, pretrained: str | None, weights: str | None
) -> tuple[Any, Any, Any, str]:
    """Load model, image transform and tokenizer, and give the checksum of the model's weights."""
    try:
        import open_clip
    except ImportError as error:
        raise EncoderUnavailableError(
            f"open_clip cannot be imported ({error}). Install it again: `pip install "
            "--force-reinstall open-clip-torch`."
        ) from error

    url = _check_names(open_clip, name, model_name, pretrained)
    folder = Path(model_name.removeprefix(LOCAL_DIR)) if pretrained is None else None
    is_assembled = folder is not None and _check_config(name, folder / _CONFIG)
    is_file = pretrained is None or Path(pretrained).is_file()
    if url and not hub.url_is_cached(url) and not hub.can_reach(url):
        raise _unreachable(name, "its server does not answer")
    if folder is not None and is_assembled:
        from retrieval.encoders.assembled import load_assembled

        model, transform = _offline_first(name, True, lambda: load_assembled(folder))
    else:
        model, transform = _offline_first(
            name,
            is_file,
            lambda: open_clip.create_model_from_pretrained(
                model_name, pretrained=pretrained, precision="fp32", device="cpu"
            ),
        )
    checksum = checksum_of(model)
    if weights not in {None, checksum}:
        raise SpaceMismatchError(
            f"The weights of {name} differ from those of the library: their checksum is "
            f"{checksum}, not {weights}. Vectors of two spaces cannot be compared. Restore those "
            "weights, or index into a new library (`--library NEW_DIR`)."
        )
    tokenizer = _offline_first(name, is_file, lambda: open_clip.get_tokenizer(model_name))
    return model, transform, tokenizer, checksum


def _offline_first(name: str, is_file: bool, load: Callable[[], _T]) -> _T:
    """Load from this machine, and where that fails and it is no file, from the hub."""
    try:
        # open_clip logs an expected miss of the cache as an error.
        with quiet_log(logging.CRITICAL), hub.without_remote_code():
            try:
                with hub.offline():
                    return load()
            except Exception as miss:
                if is_file:
                    raise EncoderUnavailableError(
                        f"{name} cannot be loaded: {miss}. Check that the file is a complete "
                        "checkpoint of this model."
                    ) from miss
                if not hub.hub_is_reachable():
                    raise _unreachable(name, "the model hub does not answer") from miss
            return load()
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderUnavailableError(f"{name} cannot be loaded: {error}") from error


def _check_config(name: str, file: Path) -> bool:
    """Refuse a configuration whose options could run code or read what is not in its directory.

    open_clip passes tokenizer options on to `transformers`, `trust_remote_code` among them, and
    takes the names of towers for directories or repositories. Returns whether it is that of an
    encoder from parts (`assembled`), whose text tower "." is described in the same directory.
    """

    def refuse(reason: str) -> EncoderUnavailableError:
        return EncoderUnavailableError(
            f"{name} cannot be loaded: {file} {reason}. A checkpoint may not choose that; remove "
            "it if you trust where the file is from."
        )

    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
        sections = [value for value in config["model_cfg"].values() if isinstance(value, dict)]
        options = {
            str(key) for section in sections for key in section.get("tokenizer_kwargs") or ()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EncoderUnavailableError(
            f"{name} cannot be loaded: {file} is no configuration of open_clip."
        ) from error
    for option in sorted(options - _TOKENIZER_OPTIONS):
        raise refuse(f"has the tokenizer option {option!r}")
    for section in sections:
        image_tower, text_tower = section.get("timm_model_name"), section.get("hf_model_name")
        if image_tower and not re.fullmatch(r"[\w.-]+", str(image_tower), re.ASCII):
            raise refuse(f"names the image tower {image_tower!r}")
        if text_tower and text_tower != "." and not hub.is_repository_name(str(text_tower)):
            raise refuse(f"names the text tower {text_tower!r}")
    text = config["model_cfg"].get("text_cfg")
    return isinstance(text, dict) and text.get("hf_model_name") == "."


def _check_names(open_clip: Any, name: str, model_name: str, pretrained: str | None) -> str | None:
    """Refuse unknown models and tags; returns the address of weights that are not on the hub."""
    if pretrained is None:
        return None
    if model_name not in open_clip.list_models():
        raise UsageError(
            f"{name}: open_clip has no model {model_name!r}. `mmsearch encoders --all` lists them."
        )
    if Path(pretrained).is_file():
        return None
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if pretrained not in tags:
        raise UsageError(
            f"{name}: {pretrained!r} is neither a file nor a pretrained tag of {model_name}. "
            f"Its tags: {', '.join(tags) or 'none'}."
        )
    config = open_clip.get_pretrained_cfg(model_name, pretrained)
    return None if config.get("hf_hub") else config.get("url")


def _unreachable(name: str, reason: str) -> EncoderUnavailableError:
    return EncoderUnavailableError(
        f"The weights of {name} are not on this machine and {reason}. Connect to the network, copy "
        "the weights here and name them (`open_clip:MODEL/FILE` or `local-dir:DIR`), or use "
        "`--encoder starter`, which needs no download."
    )


def checksum_of(model: Any) -> str:
    """Compute the checksum of a model's weights, as `Space.weights` has it."""
    digest = xxhash.xxh3_128()
    for key, tensor in model.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"xxh3-128:{digest.hexdigest()}"


def _describe(name: str, model: Any, tokenizer: Any, weights: str) -> Space:
    import open_clip

    preprocessing = json.dumps(
        {
            "reduction": REDUCTION,
            "image": open_clip.get_model_preprocess_cfg(model),
            "text": [type(tokenizer).__name__, int(tokenizer.context_length)],
        },
        sort_keys=True,
    )
    with torch.inference_mode():
        dimension = model.encode_text(tokenizer(["a"])).shape[-1]
    return Space(
        encoder=name,
        weights=weights,
        preprocessing=preprocessing,
        dimension=int(dimension),
    )


def _unit(features: torch.Tensor) -> NDArray[np.float32]:
    """Scale features to unit length, in float32 whatever they were computed in."""
    return _numpy(torch.nn.functional.normalize(features.float(), dim=-1))


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.float().cpu().numpy()
    return values
