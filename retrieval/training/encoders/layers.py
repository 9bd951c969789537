"""The layers of both towers of an open_clip model, from the input to the output."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from retrieval.errors import UsageError

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Layer:
    """A part of a tower that is trained or frozen as a whole.

    parameters: full names of its parameters. modules: full names of the smallest set of modules
    that hold them and no others; parameters that a tower holds itself (position embeddings) are in
    none of them.
    """

    name: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Tower:
    """One side of a dual encoder.

    layers: the embedding of pixels or tokens, then the blocks; final norms and pooling belong to
    the last block. head: the projection into the shared space; without parameters where a model
    has none.
    """

    name: str
    layers: tuple[Layer, ...]
    head: Layer


@dataclass(frozen=True)
class ModelLayers:
    """All parameters of a dual encoder.

    scales: names of the temperature and the bias of the similarities. unused: parameters that
    neither tower uses, such as the caption decoder of CoCa.
    """

    image: Tower
    text: Tower
    scales: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def towers(self) -> tuple[Tower, Tower]:
        """Return both towers, the image tower first."""
        return self.image, self.text


def layers_of(model: nn.Module) -> ModelLayers:
    """Order the parameters of an open_clip model (`CLIP`, `CustomTextCLIP`, `CoCa`) by layer.

    Image towers: open_clip's vision transformers and ResNets, and all of timm that declare their
    layers (`group_matcher`). Text towers: open_clip's transformer and encoders of `transformers`.

    Raises:
        UsageError: a tower is of another architecture.
    """
    from open_clip.hf_model import HFTextEncoder
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import TextTransformer, VisionTransformer

    names = [name for name, _ in model.named_parameters()]
    scales = tuple(name for name in names if name in {"logit_scale", "logit_bias"})
    visual, text = getattr(model, "visual", None), getattr(model, "text", None)
    blocks = r"transformer\.resblocks\.(\d+)\."
    if isinstance(visual, VisionTransformer):
        image = _by_blocks(visual, blocks, r"ln_post|attn_pool", r"proj$")
    elif isinstance(visual, ModifiedResNet):
        image = _by_blocks(visual, r"(layer\d+\.\d+)\.", None, r"attnpool\.")
    elif isinstance(visual, TimmModel):
        image = _timm(visual)
    else:
        raise _unknown(model, "image", visual)
    native = blocks, r"ln_final", r"text_projection"
    if isinstance(text, TextTransformer):
        words = _by_blocks(text, *native)
    elif isinstance(text, HFTextEncoder):
        words = _hugging_face(text)
    elif text is None and isinstance(getattr(model, "token_embedding", None), nn.Embedding):
        words = _by_blocks(model, *native, leave_out=("visual.", *scales))
    else:
        raise _unknown(model, "text", text)
    towers = (
        _tower(model, "image", "visual.", image),
        _tower(model, "text", "text." if text is not None else "", words),
    )
    placed = {
        name
        for tower in towers
        for layer in (*tower.layers, tower.head)
        for name in layer.parameters
    }
    unused = tuple(name for name in names if name not in placed and name not in scales)
    return ModelLayers(*towers, scales, unused)


def parameter_of(model: nn.Module, name: str) -> nn.Parameter:
    """Return a parameter by its name, also where an adapter was put before it."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    adapted = getattr(module, "parametrizations", {})
    if last in adapted:
        original = adapted[last].original
        assert isinstance(original, nn.Parameter)
        return original
    return module.get_parameter(last)


_Groups = list[tuple[str, list[str]]]
"""Layers and then the head: names, and names of parameters within the tower."""


def _unknown(model: nn.Module, side: str, tower: object) -> UsageError:
    return UsageError(
        f"The layers of the {side} tower of this model are not known ({type(model).__name__} with "
        f"{type(tower).__name__}). Encoders of open_clip, with towers of its own, of timm or of "
        "transformers, can be trained."
    )


def _by_blocks(
    tower: nn.Module,
    block: str,
    last: str | None,
    head: str,
    *,
    leave_out: tuple[str, ...] = (),
) -> _Groups:
    """Group parameters by the number of their block; others come before the first block.

    block: pattern at the beginning of a name, whose group is the block. last: pattern of what
    belongs to the last block. head: pattern of the head.
    """
    groups: dict[str, list[str]] = {"input": []}
    at_end: list[str] = []
    heads: list[str] = []
    for name, _ in tower.named_parameters():
        if name.startswith(leave_out):
            continue
        if found := re.match(block, name):
            groups.setdefault(f"block {found[1]}", []).append(name)
        elif last and re.match(last, name):
            at_end.append(name)
        elif re.match(head, name):
            heads.append(name)
        else:
            groups["input"].append(name)
    layers = list(groups.items())
    layers[-1][1].extend(at_end)
    return [*layers, ("head", heads)]


def _timm(tower: nn.Module) -> _Groups:
    from timm.models import group_parameters

    trunk: Any = tower.get_submodule("trunk")
    if not hasattr(trunk, "group_matcher"):
        raise UsageError(
            f"timm does not say what the layers of {type(trunk).__name__} are. Only image towers "
            "with a `group_matcher` can be trained."
        )
    matcher = trunk.group_matcher(coarse=False)
    patterns = re.compile("|".join(_patterns(matcher)))
    groups: dict[int, list[str]] = {}
    after: list[str] = []
    for number, names in sorted(group_parameters(trunk, matcher).items()):
        for name in names:
            if not patterns.match(name):
                after.append(name)  # pooling, the norm behind it, the classifier
            elif name.startswith("norm_pre.") and hasattr(trunk, "blocks"):
                # Of a transformer's norms, timm does not tell the one before the blocks.
                groups[0].append(name)
            else:
                groups.setdefault(number, []).append(name)
    layers = [
        (f"block {place - 1}" if place else "input", [f"trunk.{name}" for name in names])
        for place, names in enumerate(groups.values())
    ]
    heads = [f"head.{name}" for name, _ in tower.get_submodule("head").named_parameters()]
    rest = [f"trunk.{name}" for name in after]
    if heads:
        layers[-1][1].extend(rest)
    return [*layers, ("head", heads or rest)]


def _patterns(matcher: Mapping[str, str | Sequence[tuple[str, object]]]) -> Iterator[str]:
    for patterns in matcher.values():
        if isinstance(patterns, str):
            yield patterns
        else:
            yield from (pattern for pattern, _ in patterns or ())


def _hugging_face(tower: nn.Module) -> _Groups:
    lists = [
        (len(module), name)
        for name, module in tower.get_submodule("transformer").named_modules()
        if isinstance(module, nn.ModuleList) and not re.search(r"\.\d+\.", f".{name}.")
    ]
    if not lists:
        raise UsageError("The text tower has no list of layers; it cannot be trained.")
    _, path = max(lists)
    block = rf"transformer\.{re.escape(path)}\.(\d+)\."
    names = [name for name, _ in tower.named_parameters()]
    final = [place for place, name in enumerate(names) if re.match(block, name)][-1]
    after = [name for name in names[final + 1 :] if not name.startswith("proj.")]
    return _by_blocks(
        tower, block, "|".join(f"{re.escape(name)}$" for name in after) or None, r"proj\."
    )


def _tower(model: nn.Module, side: str, prefix: str, groups: _Groups) -> Tower:
    layers = []
    for name, parameters in groups:
        full = tuple(prefix + parameter for parameter in parameters)
        layers.append(Layer(f"{side} {name}", full, tuple(_modules_of(model, full))))
    return Tower(side, tuple(layer for layer in layers[:-1] if layer.parameters), layers[-1])


def _modules_of(model: nn.Module, parameters: Sequence[str]) -> list[str]:
    """Return the fewest modules that hold some parameters and no others.

    Containers count as what is in them: not all are called as a whole.
    """
    wanted = set(parameters)

    def within(path: str, module: nn.Module) -> Iterator[str]:
        names = {f"{path}{name}" for name, _ in module.named_parameters()}
        if not names & wanted:
            return
        if names <= wanted and not isinstance(module, _CONTAINERS) and path:
            yield path.removesuffix(".")
            return
        for name, child in module.named_children():
            yield from within(f"{path}{name}.", child)

    return list(within("", model))


def modules_in(model: nn.Module, layers: Iterable[Layer]) -> list[nn.Module]:
    """Return the modules of layers."""
    return [model.get_submodule(name) for layer in layers for name in layer.modules]
