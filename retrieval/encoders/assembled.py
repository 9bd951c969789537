"""Encoders from parts: any image tower of timm, any text tower of `transformers`, one space.

The towers were trained apart; a linear map or a small perceptron behind each brings both into one
space, and is what `mmsearch train encoder` trains, with the towers or, while one or both are
locked, without (LiT, Zhai et al. 2022). In memory and on disk such a model is one of open_clip: a
`CustomTextCLIP`, and a folder with

    open_clip_config.json         the towers, and how pictures are preprocessed
    open_clip_model.safetensors   all weights
    config.json                   of the text tower, by `transformers`
    tokenizer.json and others     of its tokenizer

that `local-dir:DIR` loads, offline. `hf_model_name` of such a folder is ".", the folder itself.
"""

import difflib
import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import torch
from open_clip import CustomTextCLIP
from open_clip.hf_model import ClsLastHiddenStatePooler, HFTextEncoder, MeanPooler
from open_clip.model import set_model_preprocess_cfg
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from retrieval.encoders import e5, hub
from retrieval.encoders.checkpoints import CheckpointKind, quiet_transformers
from retrieval.encoders.e5_file import E5File
from retrieval.encoders.e5_tokenizer import fast_tokenizer
from retrieval.encoders.modalities import ASSEMBLED
from retrieval.encoders.towers import EFFICIENTNET_LITE2, efficientnet_lite2, minilm_files
from retrieval.errors import EncoderUnavailableError, UsageError, first_line
from retrieval.files import replacing

DIMENSION = 512
CONTEXT_LENGTH = 77
"""Tokens of a text, as of CLIP: captions and queries are short."""

LITE2 = "efficientnet-lite2"
MINILM = "minilm"
E5 = "e5"
"""Names of the towers whose weights come in installed packages."""

THIS_FOLDER = "."
"""`hf_model_name` of a folder that has the text tower's configuration in itself."""

POOLERS: Mapping[str, tuple[str, Callable[[], nn.Module]]] = {
    "mean": ("mean_pooler", MeanPooler),
    "cls": ("cls_last_hidden_state_pooler", ClsLastHiddenStatePooler),
}
"""Ways to pool a text tower's tokens: open_clip's name, and its module."""
PROJECTIONS = ("linear", "mlp")
TOWERS = ("image", "text")

_CONFIG, _WEIGHTS, _TEXT_CONFIG = (
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "config.json",
)
_TIMM_WEIGHTS = "model.safetensors"
_INTERPOLATIONS = ("bicubic", "bilinear")
_MOST_DIMENSIONS = 1 << 16
_MOST_PIXELS = 4096
_OTHER_WEIGHTS = {"backbone", "backbone_config", "use_pretrained_backbone", "model_args"}
"""With these `transformers` has timm build a network, from any file that they name."""
_ATTENTION = {None, "eager", "sdpa"}
_EXAMPLE = f"{ASSEMBLED}{LITE2}+{MINILM}"

Transform = Callable[[Image.Image], Tensor]


class TextTower(HFTextEncoder):  # type: ignore[misc]
    """A text model of `transformers`, pooled and projected; keys as of open_clip's own.

    open_clip's class knows five architectures; this one takes any whose outputs have
    `last_hidden_state`. Padding behind the longest text of a batch is left out of the work, unless
    `trims` is False, so that what the layers give has one shape for all batches.

    Args:
        transformer: the model, without a pooling layer.
        pooler_type: open_clip's name of the pooling.
        projection: one of `PROJECTIONS`.
        dimension: of the space.
        context_length: longest text, in tokens.
    """

    def __init__(
        self,
        transformer: Any,
        pooler_type: str,
        projection: str,
        dimension: int,
        context_length: int,
    ) -> None:
        nn.Module.__init__(self)
        self.config: Any = transformer.config
        self.transformer: Any = transformer
        self.output_tokens, self.output_dim = False, dimension
        self.trims = True
        self.pooler = dict(POOLERS.values())[pooler_type]()
        self.vocab_size = self.config.vocab_size
        self.context_length = context_length
        width = self.config.hidden_size
        inner = (width + dimension) // 2
        self.proj = (
            nn.Linear(width, dimension, bias=False)
            if projection == "linear"
            else nn.Sequential(
                nn.Linear(width, inner, bias=False),
                nn.GELU(),
                nn.Linear(inner, dimension, bias=False),
            )
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Project (n, t) token ids to (n, d), not normalised."""
        if self.trims and not torch.onnx.is_in_onnx_export():
            ids = without_padding(ids, self.config.pad_token_id)
        return text_outputs(self, ids)[0]


def without_padding(ids: Tensor, pad: int) -> Tensor:
    """Leave out the padding behind the longest of n texts, (n, t) token ids."""
    places = (ids != pad).any(0).nonzero()
    return ids[:, : int(places.max()) + 1 if len(places) else 1]


def text_outputs(tower: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Run a text tower of open_clip that is a model of `transformers`.

    Args:
        tower: an `HFTextEncoder`.
        ids: (n, t) int64.

    Returns:
        Projected vectors, (n, d), not normalised, and the last hidden states, (n, t, width).
    """
    mask = ids != tower.config.pad_token_id
    # A tokenizer without special tokens gives none for an empty text.
    first = torch.arange(ids.shape[1], device=ids.device) == 0
    mask = (mask | (first & ~mask.any(1, keepdim=True))).long()
    outputs = tower.transformer(input_ids=ids, attention_mask=mask)
    return tower.proj(tower.pooler(outputs, mask)), outputs.last_hidden_state


class AssembledModel(CustomTextCLIP):  # type: ignore[misc]
    """An image tower of timm and a text tower of `transformers` behind open_clip's interface.

    Args:
        image: the image tower with its projection.
        text: the text tower with its own.
        config: `model_cfg` of the folder that it is saved as.
        parts: names of the towers that it was assembled from, by `TOWERS`.
    """

    def __init__(
        self,
        image: Any,
        text: TextTower,
        config: Mapping[str, Any],
        parts: Mapping[str, str],
    ) -> None:
        nn.Module.__init__(self)
        self.output_dict = False
        # On a CPU convolutions take half of the time so.
        self.visual: Any = image.to(memory_format=torch.channels_last)
        self.text = text
        self.context_length, self.vocab_size = text.context_length, text.vocab_size
        self.logit_scale = nn.Parameter(torch.tensor(log(1 / 0.07)))
        bias = config.get("init_logit_bias")
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(float(bias)))
        self.config = dict(config)
        self.parts = dict(parts)
        self.frozen: frozenset[str] = frozenset()

    @property
    def towers(self) -> dict[str, nn.Module]:
        """Return the towers without their projections, by `TOWERS`."""
        return {"image": self.visual.trunk, "text": self.text.transformer}

    def freeze(self, towers: Collection[str]) -> None:
        """Lock these towers and no others; a locked one stays in evaluation mode (LiT)."""
        self.frozen = frozenset(towers)
        for name, tower in self.towers.items():
            tower.requires_grad_(name not in self.frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "AssembledModel":
        """Set the mode; of locked towers neither dropout nor statistics of batches change."""
        super().train(mode)
        for name in self.frozen:
            self.towers[name].eval()
        return self


@dataclass(frozen=True)
class _ImageTower:
    """A network of timm: its name there, how pictures are preprocessed, and its weights."""

    architecture: str
    preprocess: Mapping[str, Any]
    weights: Mapping[str, Tensor]


def assemble(
    name: str,
    *,
    dimension: int = DIMENSION,
    pooling: str = "mean",
    projection: str = "linear",
    frozen: Collection[str] = (),
    seed: int = 0,
) -> tuple[AssembledModel, Transform, Any]:
    """Build an encoder from two towers, with projections of random weights.

    Args:
        name: `assembled:IMAGE_TOWER+TEXT_TOWER`. An image tower is a name of timm, whose weights
            come from the hub's cache or the hub, a folder as timm saves it (`config.json` and
            `model.safetensors`), or `efficientnet-lite2`; a text tower is a repository of the hub,
            a folder as `save_pretrained` writes it, `minilm`, or `e5`, the multilingual one of
            `starter`. Those without a folder or repository need no download.
        dimension: of the space. (default: 512)
        pooling: of the text tower's tokens, `mean` or `cls`. Image towers pool as they were trained
            to. (default: mean)
        projection: `linear` or `mlp`, a perceptron with one hidden layer. (default: linear)
        frozen: towers to lock, of `image` and `text`. (default: none)
        seed: of the projections' weights. (default: 0)

    Returns:
        The model in float32 on the CPU, the transform from an RGB image to (3, height, width)
        float32, and open_clip's tokenizer, which gives (n, 77) int64.

    Raises:
        UsageError: an argument is out of range, or a name cannot be meant.
        EncoderUnavailableError: weights cannot be had, within 5 seconds where the hub does not
            answer, or are damaged.
    """
    _require(f"{name}: dimension", dimension, 0 < dimension <= _MOST_DIMENSIONS, "1 to 65536")
    _require(f"{name}: pooling", pooling, pooling in POOLERS, " or ".join(POOLERS))
    _require(f"{name}: projection", projection, projection in PROJECTIONS, " or ".join(PROJECTIONS))
    _require(f"{name}: frozen", sorted(frozen), set(frozen) <= set(TOWERS), "of image and text")
    image_name, text_name = tower_names(name)
    source = _image_tower(name, image_name)
    transformer, tokenizer = _text_tower(name, image_name, text_name)
    size = source.preprocess["size"]
    config = {
        "embed_dim": dimension,
        "vision_cfg": {
            "timm_model_name": source.architecture,
            "timm_pool": "",
            "timm_proj": projection,
            "image_size": size,
        },
        "text_cfg": {
            "hf_model_name": THIS_FOLDER,
            "hf_tokenizer_name": THIS_FOLDER,
            "hf_pooler_type": POOLERS[pooling][0],
            "hf_proj_type": projection,
            "context_length": tokenizer.context_length,
        },
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = _image_module(config)
        text = _text_module(transformer, config)
    _load_image_weights(name, image.trunk, source)
    model = AssembledModel(image, text, config, {"image": image_name, "text": text_name})
    model.freeze(frozen)
    model.eval()
    return model, _set_transform(model, source.preprocess), tokenizer


def tower_names(name: str) -> tuple[str, str]:
    """Split `assembled:IMAGE_TOWER+TEXT_TOWER`; raises UsageError for another form."""
    parts = name.removeprefix(ASSEMBLED).split("+")
    if not name.startswith(ASSEMBLED) or len(parts) != len(TOWERS) or not all(parts):
        raise UsageError(
            f"{name!r} is not of the form {ASSEMBLED}IMAGE_TOWER+TEXT_TOWER, for example {_EXAMPLE}"
            f" or {ASSEMBLED}resnet50+google-bert/bert-base-uncased. Name a trained encoder by its "
            "folder: local-dir:DIR."
        )
    return parts[0], parts[1]


def save_assembled(model: AssembledModel, tokenizer: Any, folder: Path) -> None:
    """Save a model and its tokenizer as a folder that `local-dir:` loads.

    Each file is replaced in one step; the one that makes the folder an encoder comes last.

    Args:
        model: as `assemble` or `load_assembled` gave it.
        tokenizer: given with it.
        folder: created if missing.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = dict(model.config)
    if model.logit_bias is not None:
        config["init_logit_bias"] = float(model.logit_bias.detach())
    image: Any = model.visual
    preprocess = {key: value for key, value in image.preprocess_cfg.items() if key != "size"}
    written = {"model_cfg": config, "preprocess_cfg": preprocess, "assembled_from": model.parts}
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as place:
        tokenizer.save_pretrained(place)
        model.text.config.save_pretrained(place)
        save_file(weights, Path(place) / _WEIGHTS, metadata={"format": "pt"})
        (Path(place) / _CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        files = [path for path in Path(place).iterdir() if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == _CONFIG):
            with replacing(folder / path.name) as unfinished:
                path.replace(unfinished)


def load_assembled(folder: Path) -> tuple[AssembledModel, Transform]:
    """Load a folder that `save_assembled` wrote; reads nothing outside of it, and runs no code.

    Its tokenizer is one that open_clip finds: `get_tokenizer("local-dir:DIR")`.

    Returns:
        Model and transform, as of `assemble`.

    Raises:
        ValueError: the folder says what it may not, or is not complete.
    """
    import transformers
    from safetensors.torch import load_file

    written = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    config = written["model_cfg"]
    check_text_config(folder)
    if not any((folder / file).is_file() for file in _TEXT_PARTS["tokenizer"]):
        raise ValueError(f"{folder} has no tokenizer")  # transformers would make an empty one
    with hub.offline(), hub.without_remote_code():
        text_config = transformers.AutoConfig.from_pretrained(folder)
        transformer = transformers.AutoModel.from_config(text_config)
    image = _image_module(config)
    text = _text_module(_without_decoder(transformer), config)
    parts = written.get("assembled_from") or dict.fromkeys(TOWERS, str(folder))
    model = AssembledModel(image, text, config, parts)
    model.load_state_dict(load_file(folder / _WEIGHTS))
    model.eval()
    preprocess = written.get("preprocess_cfg") or {}
    return model, _set_transform(model, {**preprocess, "size": image.image_size})


def check_text_config(folder: Path) -> None:
    """Raise ValueError where a text tower's configuration names code or another network."""
    config = json.loads((folder / _TEXT_CONFIG).read_text(encoding="utf-8"))
    if "auto_map" in config or "quantization_config" in config:
        raise ValueError(f"{_TEXT_CONFIG} names code, which a checkpoint may not choose")
    if found := sorted(_OTHER_WEIGHTS & set(_keys(config))):
        raise ValueError(f"{_TEXT_CONFIG} names another network ({found[0]})")
    for key in ("attn_implementation", "_attn_implementation"):
        if config.get(key) not in _ATTENTION:
            raise ValueError(f"{_TEXT_CONFIG} has the option {key}")


def _keys(value: Any) -> Iterator[str]:
    """Yield the names of all fields of JSON, those of inner objects too."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _keys(each)


def _image_module(config: Mapping[str, Any]) -> Any:
    """Build the image tower of a configuration, with random weights."""
    vision = config["vision_cfg"]
    size = vision["image_size"]
    sides = [size] if isinstance(size, int) else list(size)
    if not all(isinstance(side, int) and 0 < side <= _MOST_PIXELS for side in sides):
        raise ValueError(f"the image size {size!r} is out of range")
    return TimmModel(
        str(vision["timm_model_name"]),
        int(config["embed_dim"]),
        image_size=size,
        pool=vision["timm_pool"],
        proj=vision["timm_proj"],
    )


def _text_module(transformer: Any, config: Mapping[str, Any]) -> TextTower:
    text = config["text_cfg"]
    return TextTower(
        transformer,
        text["hf_pooler_type"],
        text["hf_proj_type"],
        int(config["embed_dim"]),
        int(text["context_length"]),
    )


def _set_transform(model: AssembledModel, preprocess: Mapping[str, Any]) -> Transform:
    settings = PreprocessCfg(**preprocess)
    set_model_preprocess_cfg(model, vars(settings))
    transform: Transform = image_transform_v2(settings, is_train=False)
    return transform


def _image_tower(name: str, tower: str) -> _ImageTower:
    """Find an image tower by its name."""
    if tower == LITE2:
        # As `starter` sees pictures: (value - 127) / 128.
        preprocess = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3, "size": 260}
        return _ImageTower(
            EFFICIENTNET_LITE2, _preprocess(preprocess), efficientnet_lite2().state_dict()
        )
    folder = Path(tower).expanduser()
    if folder.is_dir():
        return _image_folder(name, folder)
    return _timm_tower(name, tower)


def _timm_tower(name: str, tower: str) -> _ImageTower:
    """Find the weights of a name of timm in the hub's cache, else on the hub."""
    import timm
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    architecture, _, tag = tower.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
    if not re.fullmatch(r"\w+(\.[\w.-]+)?", tower, re.ASCII) or not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 3)
        raise UsageError(
            f"{name}: timm has no image tower {tower!r}"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + f" Name one of timm, a folder with its weights, or {LITE2}."
        )
    if tag and tower not in tags:
        raise UsageError(
            f"{name}: timm has no weights {tower!r}. Of {architecture} there are: "
            f"{', '.join(tags) or 'none'}."
        )
    settings = timm.get_pretrained_cfg(tower)
    repository = settings.hf_hub_id if settings else None
    if not repository:
        raise UsageError(
            f"{name}: there are no pretrained weights of {tower} on the model hub. Name another "
            f"image tower, a folder with its weights, or {LITE2}."
        )
    without = f"name a folder with its weights, or {LITE2}, which needs no download"
    if not hub.is_cached(repository, _TIMM_WEIGHTS) and not hub.hub_is_reachable():
        raise EncoderUnavailableError(
            f"The weights of the image tower {tower} are not on this machine and the model hub "
            f"does not answer. Connect to the network, {without}."
        )
    try:
        file = hf_hub_download(
            repository, _TIMM_WEIGHTS, local_files_only=hub.is_cached(repository, _TIMM_WEIGHTS)
        )
        weights = load_file(file)
    except Exception as error:  # several libraries' network errors have no common base
        raise EncoderUnavailableError(
            f"The image tower {tower} cannot be downloaded: {first_line(error)}. Try again, or "
            f"{without}."
        ) from error
    return _ImageTower(tower, _preprocess(settings.to_dict()), weights)


def _image_folder(name: str, folder: Path) -> _ImageTower:
    """Read a folder as timm saves it: `config.json` and `model.safetensors`."""
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / _TEXT_CONFIG).read_text(encoding="utf-8"))
        architecture = str(config["architecture"])
        if not re.fullmatch(r"[\w.-]+", architecture, re.ASCII):
            raise ValueError(f"its architecture is {architecture!r}")  # noqa: TRY301
        preprocess = _preprocess(config["pretrained_cfg"])
        weights = load_file(folder / _TIMM_WEIGHTS)
    except Exception as error:  # safetensors' errors have no common base
        raise EncoderUnavailableError(
            f"{name}: {folder} is no image tower ({first_line(error)}). Name a folder as timm's "
            f"`save_for_hf` writes it, with config.json and {_TIMM_WEIGHTS}."
        ) from error
    return _ImageTower(architecture, preprocess, weights)


def _preprocess(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give open_clip's preprocessing of timm's; the whole picture is squashed to the input."""
    size = settings.get("size") or list(settings["input_size"][1:])
    interpolation = settings.get("interpolation")
    return {
        "size": size if isinstance(size, int) or size[0] != size[1] else size[0],
        "mean": tuple(map(float, settings["mean"])),
        "std": tuple(map(float, settings["std"])),
        "interpolation": interpolation if interpolation in _INTERPOLATIONS else _INTERPOLATIONS[0],
        "resize_mode": "squash",
    }


def _load_image_weights(name: str, trunk: nn.Module, source: _ImageTower) -> None:
    """Put a tower's weights in place; what a classifier had is left over."""
    own = trunk.state_dict()
    lacking = [
        key
        for key, value in own.items()
        if key not in source.weights or source.weights[key].shape != value.shape
    ]
    if lacking:
        raise EncoderUnavailableError(
            f"{name}: the weights are not those of {source.architecture}: {len(lacking)} tensors "
            f"are missing or of another shape, such as {lacking[0]}."
        )
    trunk.load_state_dict({key: source.weights[key] for key in own})


def _text_tower(name: str, image_name: str, tower: str) -> tuple[Any, Any]:
    """Load a text tower and its tokenizer by name."""
    kind = CheckpointKind(
        f"{ASSEMBLED}{image_name}",
        "--encoder",
        "google-bert/bert-base-uncased",
        f"name {MINILM}, which needs no download",
        _TEXT_PARTS,
        separator="+",
    )
    if tower == E5:
        return _multilingual_e5()
    if tower == MINILM:
        folder = minilm_files()[0].parent
    else:
        folder = kind.local_folder(tower) or kind.hub_folder(tower)
    with kind.loading(name, folder) as transformers:
        check_text_config(folder)
        config = transformers.AutoConfig.from_pretrained(folder)
        if not getattr(config, "vocab_size", None) or not getattr(config, "hidden_size", None):
            raise UsageError(
                f"{name}: {folder} is a checkpoint of the type {config.model_type!r}, not of a text"
                f" model. Name one such as {kind.example}."
            )
        model, report = transformers.AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
        transformer = _without_decoder(model)
        own = set(transformer.state_dict())
        kind.require_weights(name, folder, own & set(report["missing_keys"]))
        longest = getattr(config, "max_position_embeddings", None) or CONTEXT_LENGTH
        tokenizer = HFTokenizer(str(folder))
        pad = tokenizer.tokenizer.pad_token_id
        if pad is None:
            raise UsageError(
                f"{name}: the tokenizer of {tower} has no padding token. Name another text tower."
            )
        # Some models count positions from behind that of their padding.
        tokenizer.context_length = min(
            CONTEXT_LENGTH, int(tokenizer.tokenizer.model_max_length), int(longest) - pad - 1
        )
        transformer.config.pad_token_id = pad
    return transformer, tokenizer


def _multilingual_e5() -> tuple[nn.Module, Any]:
    """Expand the text tower of `starter`, whose package has it in 4 bits, to a BERT in float32."""
    import transformers

    weights = {name: torch.from_numpy(value) for name, value in e5.bert_weights().items()}
    rows = {name: len(weights[f"embeddings.{name}_embeddings.weight"]) for name in _TABLES}
    config = transformers.BertConfig(
        vocab_size=rows["word"],
        max_position_embeddings=rows["position"],
        type_vocab_size=rows["token_type"],
        hidden_size=e5.WIDTH,
        intermediate_size=e5.INNER,
        num_hidden_layers=e5.LAYERS,
        pad_token_id=1,
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(weights)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast_tokenizer(E5File(e5.weights_path()).pieces, e5.PREFIX),
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=rows["position"],
    )
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        made.save_pretrained(folder)
        return model, HFTokenizer(folder, context_length=CONTEXT_LENGTH)


_TABLES = ("word", "position", "token_type")

_TEXT_PARTS = {
    "configuration": ("config.json",),
    "weights in safetensors format": ("model.safetensors", "model.safetensors.index.json"),
    "tokenizer": ("tokenizer.json", "vocab.txt", "vocab.json"),
}


def _without_decoder(model: Any) -> Any:
    """Return what reads texts of a model, without a layer that pools them."""
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None
    return model


def _require(what: str, value: object, is_fine: bool, allowed: str) -> None:
    if not is_fine:
        raise UsageError(f"{what} is {value!r}; allowed: {allowed}.")
