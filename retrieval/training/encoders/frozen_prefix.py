"""Compute the layers of a dual encoder that stay frozen once, and train the rest on their outputs.

The outputs lie on disk in float16, memory-mapped, under names hashed from what they depend on.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.encoders.assembled import TextTower, without_padding
from retrieval.errors import UsageError
from retrieval.training.encoders.gradient_cache import Inputs
from retrieval.training.encoders.layers import Layer, Tower, parameter_of
from retrieval.training.encoders.tuning import Tuned
from retrieval.training.feature_folder import FeatureFolder, Progress
from retrieval.training.features import pad

IMAGE_BATCH = 32
TEXT_BATCH = 64
_TOLERANCE = 1e-3


class _Reached(Exception):  # noqa: N818 - not an error
    """Ends a forward pass at the first trained layer, with what would have gone into it."""

    def __init__(self, states: Tensor) -> None:
        self.states = states


@dataclass(frozen=True)
class _Shape:
    """Shape of a tensor for a batch of n: n stands on one axis, or on none."""

    one: tuple[int, ...]
    axis: int | None
    dtype: torch.dtype

    @classmethod
    def of(cls, one: Tensor, two: Tensor) -> "_Shape":
        """Compare what a batch of one and of two gave."""
        differing = [
            axis for axis, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b
        ]
        return cls(tuple(one.shape), differing[0] if differing else None, one.dtype)

    def zeros(self, count: int, device: torch.device, *, dense: bool) -> Tensor:
        shape = list(self.one)
        if self.axis is not None:
            shape[self.axis] *= count
        if dense:
            return torch.zeros(shape, dtype=self.dtype, device=device)
        return torch.zeros((), dtype=self.dtype, device=device).expand(shape)


class _Cut:
    """Where a tower is cut: it runs up to the first trained module, or goes on from it.

    shape: of what goes between, without the batch. Where nothing is left but a projection that is
    no module of its own, that is what goes into it.
    """

    def __init__(
        self, model: nn.Module, tower: Tower, frozen: int, encode: Callable[[Tensor], Tensor]
    ) -> None:
        self._model = model
        self._encode = encode
        self._tower = tower
        self._frozen: list[str] = _module_names(tower.layers[:frozen])
        self._shapes: dict[str, list[_Shape | None]] = {}
        self._tuples: set[str] = set()
        self._dense = False
        self._module: str | None = None
        self._axis = 0
        self.shape: tuple[int, ...] = ()
        self._trained = _module_names((*tower.layers[frozen:], tower.head))

    def trace(self, inputs: Tensor) -> None:
        """Find out what a forward pass calls, and what of what shape goes between."""
        with torch.no_grad():
            one, two = (self._record(inputs[:count]) for count in (1, 2))
        if self._trained:
            self._module = next(name for name in one if name in self._trained)
        called = list(one)
        for name in set(self._frozen) & one.keys():
            outputs = [self._as_tuple(trace[name][1]) for trace in (one, two)]
            if self._module and called.index(name) > called.index(self._module):
                raise _not_cut(self._tower)
            if isinstance(one[name][1], tuple):
                self._tuples.add(name)
            self._shapes[name] = [
                None if a is None else _Shape.of(a, b) for a, b in zip(*outputs, strict=True)
            ]
        if self._module:
            states = _Shape.of(one[self._module][0], two[self._module][0])
            if states.axis is None:
                raise _not_cut(self._tower)
            self._axis = states.axis
        self.shape = tuple(self.before(inputs[:1]).shape[1:])

    def before(self, inputs: Tensor) -> Tensor:
        """Run the frozen layers; (n, ...)."""
        training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad():
                if self._module is None:
                    with self._without_projection():
                        return self._encode(inputs)
                with _pre_hook(self._model.get_submodule(self._module), _stop):
                    self._encode(inputs)
        except _Reached as reached:
            return reached.states.movedim(self._axis, 0).contiguous()
        finally:
            self._model.train(training)
        raise _not_cut(self._tower)

    def after(self, states: Tensor, inputs: Tensor) -> Tensor:
        """Run the rest; (n, d), not normalised. inputs: for masks and pooling."""
        if self._module is None:
            names = self._tower.head.parameters
            return states @ parameter_of(self._model, names[0]) if names else states

        def put_in(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return _replace_states(args, kwargs, states.movedim(0, self._axis))

        with self._bypassed(len(states), states.device):
            module = self._model.get_submodule(self._module)
            with _pre_hook(module, put_in):
                return self._encode(inputs)

    def check(self, inputs: Tensor) -> None:
        """Raise UsageError where cutting the tower changes what it computes."""
        training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad():
                whole, states = self._encode(inputs), self.before(inputs)
                try:
                    cut = self.after(states, inputs)
                except RuntimeError:  # some activations work in place, which needs memory
                    self._dense = True
                    cut = self.after(states, inputs)
        finally:
            self._model.train(training)
        if not torch.allclose(
            F.normalize(whole.float(), dim=1), F.normalize(cut.float(), dim=1), atol=_TOLERANCE
        ):
            raise _not_cut(self._tower)

    def _as_tuple(self, output: Any) -> tuple[Tensor | None, ...]:
        values = output if isinstance(output, tuple) else (output,)
        if not all(value is None or isinstance(value, Tensor) for value in values):
            raise _not_cut(self._tower)
        return values

    def _record(self, inputs: Tensor) -> dict[str, tuple[Tensor, Any]]:
        """Return input and output of the modules of all layers, in the order of their calls."""
        found: dict[str, tuple[Tensor, Any]] = {}
        handles = []
        for name in (*self._frozen, *self._trained):

            def keep(
                _: nn.Module, args: Any, kwargs: Any, output: Any, *, name: str = name
            ) -> None:
                found[name] = (_states_of(args, kwargs), output)

            module = self._model.get_submodule(name)
            handles.append(module.register_forward_hook(keep, with_kwargs=True))
        training = self._model.training
        self._model.eval()
        try:
            self._encode(inputs)
        finally:
            self._model.train(training)
            for handle in handles:
                handle.remove()
        return found

    @contextmanager
    def _without_projection(self) -> Iterator[None]:
        if not self._tower.head.parameters:
            yield
            return
        path, _, name = self._tower.head.parameters[0].rpartition(".")
        owner = self._model.get_submodule(path)
        projection = owner._parameters[name]
        owner._parameters[name] = None
        try:
            yield
        finally:
            owner._parameters[name] = projection

    @contextmanager
    def _bypassed(self, count: int, device: torch.device) -> Iterator[None]:
        """Let frozen modules return zeros of the shape of their output, without computing."""
        bypassed = []
        for name, shapes in self._shapes.items():
            zeros = tuple(
                None if shape is None else shape.zeros(count, device, dense=self._dense)
                for shape in shapes
            )
            output = zeros if name in self._tuples else zeros[0]
            module = self._model.get_submodule(name)
            module.__dict__["forward"] = lambda *_, output=output, **__: output
            bypassed.append(module)
        try:
            yield
        finally:
            for module in bypassed:
                del module.__dict__["forward"]


def _module_names(layers: Sequence[Layer]) -> list[str]:
    return [name for layer in layers for name in layer.modules]


def _not_cut(tower: Tower) -> UsageError:
    return UsageError(
        f"The outputs of the frozen layers of this {tower.name} tower cannot be cached: the layers "
        "above them take more than these. Train without the cache of frozen layers, or freeze the "
        "whole tower but its head."
    )


@contextmanager
def _pre_hook(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    # Before those of the model, such as the dropout of a head: they get what the hook puts in.
    handle = module.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def _stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _Reached(_states_of(args, kwargs))


def _states_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    states: Tensor = args[0] if args else next(iter(kwargs.values()))
    return states


def _replace_states(
    args: tuple[Any, ...], kwargs: dict[str, Any], states: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args:
        return (states, *args[1:]), kwargs
    return args, {**kwargs, next(iter(kwargs)): states}


class FrozenPrefix(nn.Module):
    """A model that is cut where training begins.

    It has the interface of open_clip, but encodes what `image_states` and `text_states` return
    instead of pixels and token ids, with the outputs and the gradients of the whole model. A tower
    without frozen layers is not cut. The model is used, not copied or changed; not while another
    thread uses it.

    Args:
        tuned: the model, and which of its layers stay frozen.
        pixels: (n, 3, height, width) float32, at least 2 images, to try the cut on.
        token_ids: (n, context length) int64, at least 2 texts.

    Raises:
        UsageError: a tower cannot be cut there.
    """

    def __init__(self, tuned: Tuned, pixels: Tensor, token_ids: Tensor) -> None:
        super().__init__()
        self.model = tuned.model
        text = getattr(self.model, "text", None)
        if isinstance(text, TextTower) and tuned.frozen[1]:
            text.trims = False  # states of all texts are to be alike in shape
        self._input_shape = pixels.shape[1:]
        encoders = (
            lambda pixels: self.model.encode_image(pixels, normalize=False),  # type: ignore[operator]
            lambda ids: self.model.encode_text(ids, normalize=False),  # type: ignore[operator]
        )
        cuts: list[_Cut | None] = []
        for tower, frozen, encode, inputs in zip(
            tuned.layers.towers, tuned.frozen, encoders, (pixels, token_ids), strict=True
        ):
            cut = _Cut(self.model, tower, frozen, encode) if frozen else None
            if cut:
                cut.trace(inputs)
                cut.check(inputs)
            cuts.append(cut)
        self._image, self._text = cuts
        self._tuned = tuned

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the inverse temperature."""
        scale: Tensor = self.model.logit_scale  # type: ignore[assignment]
        return scale

    @property
    def logit_bias(self) -> Tensor | None:
        """Bias of scaled similarities, if the model has one."""
        bias: Tensor | None = getattr(self.model, "logit_bias", None)
        return bias

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of what `image_states` returns of an image; None: its tower is not cut."""
        return self._image.shape if self._image else None

    @property
    def text_shape(self) -> tuple[int, ...] | None:
        """Shape of the states that `text_states` returns of a text; None: its tower is not cut."""
        return self._text.shape if self._text else None

    def digest(self, side: int) -> str:
        """Hash the frozen layers of the image tower (0) or the text tower (1)."""
        tower, frozen = self._tuned.layers.towers[side], self._tuned.frozen[side]
        digest = hashlib.sha256(type(self.model).__name__.encode())
        for layer in tower.layers[:frozen]:
            found: dict[str, Tensor] = {
                name: parameter_of(self.model, name) for name in layer.parameters
            }
            for module in layer.modules:
                found.update(self.model.get_submodule(module).named_buffers(module))
            for name, values in sorted(found.items()):
                digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
                octets = values.detach().cpu().contiguous().view(-1).view(torch.uint8)
                digest.update(octets.numpy().data)
        return digest.hexdigest()

    def lengths(self, token_ids: Tensor) -> NDArray[np.int64]:
        """Count the leading tokens of n texts whose states matter to their vectors, (n,).

        Later ones are padding that is masked, or come after the token that a causal transformer is
        read at.
        """
        text = getattr(self.model, "text", self.model)
        config = getattr(text, "config", None)
        if config is not None:
            places = torch.arange(1, token_ids.shape[1] + 1, device=token_ids.device)
            counts = ((token_ids != config.pad_token_id) * places).amax(1).clamp_min(1)
        elif (
            getattr(text, "attn_mask", None) is not None
            and getattr(text, "cls_emb", None) is None
            and getattr(text, "text_pool_type", getattr(text, "pool_type", "")) == "argmax"
        ):
            counts = token_ids.argmax(1) + 1
        else:
            counts = torch.full_like(token_ids[:, 0], token_ids.shape[1])
        lengths: NDArray[np.int64] = counts.cpu().numpy()
        return lengths

    def image_states(self, pixels: Tensor) -> Tensor:
        """Run the frozen layers of the image tower; (n, ...). Without any: the pixels."""
        return self._image.before(pixels) if self._image else pixels

    def text_states(self, token_ids: Tensor) -> tuple[Tensor, ...]:
        """Run the frozen layers of the text tower: the token ids, and states, (n, ...), if any."""
        return (token_ids, self._text.before(token_ids)) if self._text else (token_ids,)

    def encode_image(self, states: Tensor, normalize: bool = False) -> Tensor:
        """Encode what `image_states` returned; (n, d)."""
        if self._image is None:
            vectors: Tensor = self.model.encode_image(states, normalize=normalize)  # type: ignore[operator]
            return vectors
        # Nobody looks at the pixels any more: they have the shape, and take no memory.
        pixels = states.new_zeros(()).expand(len(states), *self._input_shape)
        vectors = self._image.after(states, pixels)
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def encode_text(self, states: Inputs, normalize: bool = False) -> Tensor:
        """Encode what `text_states` returned; (n, d)."""
        token_ids, *rest = (states,) if isinstance(states, Tensor) else states
        if self._text is None:
            vectors: Tensor = self.model.encode_text(token_ids, normalize=normalize)  # type: ignore[operator]
            return vectors
        vectors = self._text.after(rest[0], token_ids)
        return F.normalize(vectors, dim=-1) if normalize else vectors


@dataclass(frozen=True)
class PhotoStates:
    """Outputs of the frozen layers for n photos in v augmented variants.

    values: (v, n, ...) float16, memory-mapped.
    """

    values: NDArray[np.float16]

    def batch(self, variants: NDArray[np.int64], photos: NDArray[np.int64]) -> Tensor:
        """Read b variants of photos; (b, ...) float32."""
        return torch.from_numpy(self.values[variants, photos]).float()


@dataclass(frozen=True)
class CaptionStates:
    """Outputs of the frozen layers for n captions.

    token_ids: (n, t). values: float16, memory-mapped; of captions of several states, (states of all
    captions, c), those that matter to one after those of the other; else (n, c). offsets: (n + 1,),
    where the states of each caption start; None where they have one each.
    """

    token_ids: Tensor
    values: NDArray[np.float16]
    offsets: NDArray[np.int64] | None

    def batch(self, captions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Read b captions, for `FrozenPrefix.encode_text`: token ids, and states in float32."""
        ids = self.token_ids[torch.from_numpy(captions)]
        if self.offsets is None:
            return ids, torch.from_numpy(self.values[captions]).float()
        states, _ = pad(self.values, self.offsets, captions)
        return ids, F.pad(states, (0, 0, 0, ids.shape[1] - states.shape[1]))


def trimmed(model: nn.Module, token_ids: Tensor) -> Tensor:
    """Leave padding out, (n, t), where the text tower masks it, as those of `transformers` do.

    Their layers take most of their time for it otherwise.
    """
    config = getattr(getattr(model, "text", None), "config", None)
    return token_ids if config is None else without_padding(token_ids, config.pad_token_id)


def photo_bytes(prefix: FrozenPrefix, photos: int, variants: int) -> int:
    """Compute the size on disk of what `photo_states` keeps."""
    shape = _shape_of(prefix.image_shape, "image")
    return 2 * variants * photos * int(np.prod(shape))


def caption_bytes(prefix: FrozenPrefix, token_ids: Tensor) -> int:
    """Compute the size on disk of what `caption_states` keeps."""
    shape = _shape_of(prefix.text_shape, "text")
    if len(shape) != 2:
        return 2 * len(token_ids) * int(np.prod(shape))
    return 2 * int(prefix.lengths(token_ids).sum()) * shape[1]


def photo_states(
    prefix: FrozenPrefix,
    read: Callable[[int, int], Tensor | None],
    *,
    photos: int,
    variants: int,
    key: Sequence[str],
    cache: Path,
    most_bytes: int,
    on_progress: Progress = lambda *_: None,
) -> PhotoStates:
    """Open the cached outputs of the frozen layers for photos, computing missing ones.

    Resumes interrupted work: rows are written in order, with a count of finished rows.

    Args:
        prefix: the model, whose image tower is cut.
        read: reads a photo, given its number, as a variant, given its own: (3, height, width);
            None: it is damaged, and its states stay zeros.
        photos: number of photos.
        variants: number of variants of each.
        key: digests of the photos, the augmentation and the preprocessing.
        cache: directory of the cache.
        most_bytes: bound of the size on disk.
        on_progress: called with stage, done and total.

    Raises:
        UsageError: the bound or the free space is too small, or states exceed float16.
    """
    shape = _shape_of(prefix.image_shape, "image")
    total = variants * photos
    folder = FeatureFolder(cache, "image-states", [*key, prefix.digest(0), str((total, shape))])
    if folder.done < total:
        _require_space(photo_bytes(prefix, photos, variants), most_bytes, cache, "images")
    values = folder.open("states.f16", (total, *shape))
    device = next(prefix.parameters()).device
    with ThreadPoolExecutor() as pool:
        for rows in folder.missing(total, IMAGE_BATCH, "frozen layers: images", on_progress):
            numbers = range(rows.start, rows.stop)
            pixels = [*pool.map(lambda row: read(row % photos, row // photos), numbers)]
            good = [place for place, each in enumerate(pixels) if each is not None]
            if good:
                batch = torch.stack([each for each in pixels if each is not None])
                places = rows.start + np.array(good)
                values[places] = _float16(prefix.image_states(batch.to(device)))
    return PhotoStates(values.reshape(variants, photos, *shape))


def caption_states(
    prefix: FrozenPrefix,
    token_ids: Tensor,
    *,
    cache: Path,
    most_bytes: int,
    on_progress: Progress = lambda *_: None,
) -> CaptionStates:
    """Open the cached outputs of the frozen layers for captions, as for photos.

    Args:
        prefix: the model, whose text tower is cut.
        token_ids: (n, t) int64.
        cache: directory of the cache.
        most_bytes: bound of the size on disk.
        on_progress: called with stage, done and total.

    Raises:
        UsageError: as for photos.
    """
    shape = _shape_of(prefix.text_shape, "text")
    lengths = prefix.lengths(token_ids)
    offsets = np.concatenate([[0], lengths.cumsum()]) if len(shape) == 2 else None
    key = [hashlib.sha256(token_ids.cpu().numpy().tobytes()).hexdigest(), prefix.digest(1)]
    folder = FeatureFolder(cache, "text-states", [*key, str((tuple(token_ids.shape), shape))])
    if folder.done < len(token_ids):
        _require_space(caption_bytes(prefix, token_ids), most_bytes, cache, "captions")
    if offsets is None:
        values = folder.open("states.f16", (len(token_ids), *shape))
    else:
        values = folder.open("states.f16", (int(offsets[-1]), shape[1]))
    device = next(prefix.parameters()).device
    for rows in folder.missing(len(token_ids), TEXT_BATCH, "frozen layers: captions", on_progress):
        ids = trimmed(prefix.model, token_ids[rows])
        _, states = prefix.text_states(ids.to(device))
        if offsets is None:
            values[rows] = _float16(states)
        else:
            mask = torch.from_numpy(np.arange(states.shape[1]) < lengths[rows, None])
            values[offsets[rows.start] : offsets[rows.stop]] = _float16(states.cpu()[mask])
    return CaptionStates(token_ids, values, offsets)


def _shape_of(shape: tuple[int, ...] | None, side: str) -> tuple[int, ...]:
    if shape is None:
        raise UsageError(f"The {side} tower has no frozen layers whose outputs could be cached.")
    return shape


def _require_space(needed: int, most: int, cache: Path, what: str) -> None:
    free = shutil.disk_usage(cache).free
    if needed > min(most, free):
        bound = "the bound is" if most <= free else f"the disk of {cache} has"
        raise UsageError(
            f"The outputs of the frozen layers of all {what} take {needed / 1e9:.1f} GB, and "
            f"{bound} {min(most, free) / 1e9:.1f} GB. Train fewer layers, cache fewer variants of "
            "each photo, raise the bound, or train without this cache."
        )


def _float16(states: Tensor) -> NDArray[np.float16]:
    values: NDArray[np.float16] = states.to(torch.float16).cpu().numpy()
    if not np.isfinite(values).all():
        raise UsageError(
            "The outputs of the frozen layers exceed the range of float16. Train without the cache "
            "of frozen layers."
        )
    return values
