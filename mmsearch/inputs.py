"""What people give as images, vectors, filters and payload, as the engine takes it."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import ValidationError

from retrieval.catalog import Item
from retrieval.errors import UnreadableFileError, UsageError, first_problem
from retrieval.filters import Filter
from retrieval.media.images import read_image, reduced
from retrieval.search.answer import Hit
from retrieval.search.query import AudioPart, read_sound

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""Path of an image file, its content, a PIL image, or an array of uint8, (H, W, 3)."""

AudioLike: TypeAlias = str | os.PathLike[str] | bytes
"""Path of a sound file, or its content."""

FilterLike: TypeAlias = Filter | Mapping[str, Any]
"""A filter, or what it is as JSON: `{"kind": ["video"], "taken_at": {"since": "2024"}}`."""

ItemLike: TypeAlias = int | Item | Hit
"""An item: its id, itself, or a hit."""


def as_image(value: ImageLike, least_side: int | None = None) -> Image.Image:
    """Return an upright RGB image.

    least_side: make it smaller by whole factors while both sides keep that many pixels.

    Raises TypeError for what is no image, UsageError for a file that cannot be read.
    """
    if isinstance(value, Image.Image):
        return reduced(_upright_rgb(value), least_side)
    if isinstance(value, str | os.PathLike):
        return _read(value, f"The image {os.fspath(value)}", least_side)
    if isinstance(value, bytes | bytearray | memoryview):
        return _read(bytes(value), "The image", least_side)
    if hasattr(value, "__array__"):
        return reduced(Image.fromarray(_pixels(np.asarray(value))), least_side)
    raise TypeError(
        "An image is a path, the bytes of a file, a PIL image or an array of uint8, (H, W, 3); not "
        f"{_kind(value)}."
    )


def as_sound(value: AudioLike) -> AudioPart:
    """Return a sound as a part of a query.

    Raises TypeError for what is no sound, UsageError for a file that cannot be read.
    """
    if isinstance(value, str | os.PathLike):
        return read_sound(value, f"The sound {os.fspath(value)}")
    if isinstance(value, bytes | bytearray | memoryview):
        return read_sound(bytes(value), "The sound")
    raise TypeError(f"A sound is a path or the bytes of a file; not {_kind(value)}.")


def _read(source: str | os.PathLike[str] | bytes, name: str, least_side: int | None) -> Image.Image:
    try:
        return read_image(source, least_side=least_side)
    except (OSError, UnreadableFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{name}: {reason}.") from error


def _pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise TypeError(
            "An image as an array has the dtype uint8 and the shape (H, W, 3), RGB; not "
            f"{array.dtype}, {array.shape}. `(255 * x).round().astype('uint8')` makes it of values "
            "from 0 to 1, `x.transpose(1, 2, 0)` of (3, H, W)."
        )
    return np.ascontiguousarray(array)


def _upright_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGB" and "transparency" not in upright.info:
        return upright
    if "A" in upright.getbands() or "transparency" in upright.info:
        shown = upright.convert("RGBA")
        white = Image.new("RGBA", shown.size, "white")
        return Image.alpha_composite(white, shown).convert("RGB")
    return upright.convert("RGB")


def as_filter(value: FilterLike | None) -> Filter | None:
    """Return a filter; raises UsageError for an invalid one, TypeError for another type."""
    if value is None or isinstance(value, Filter):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"where= is a Filter or a dict, not {_kind(value)}.")
    try:
        return Filter.model_validate(dict(value))
    except ValidationError as error:
        raise UsageError(first_problem(error)) from None


def as_item_id(value: ItemLike) -> int:
    """Return the id of an item; raises TypeError for another type."""
    if isinstance(value, Hit):
        return value.item.id
    if isinstance(value, Item):
        return value.id
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"An item is its id, an Item or a Hit; not {_kind(value)}.")


def as_list(name: str, value: object, kind: type) -> list[Any]:
    """Return the values of an iterable of one type, or one value alone, as a list.

    Raises TypeError for others.
    """
    if isinstance(value, kind):
        return [value]
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise TypeError(f"{name}= is a list of {kind.__name__}, not {_kind(value)}.")
    values = list(value)
    for one in values:
        if not isinstance(one, kind):
            raise TypeError(f"{name}= is a list of {kind.__name__}; it has {_kind(one)}.")
    return values


def require(name: str, value: object, *kinds: type) -> None:
    """Raise TypeError for an option that is of none of some types; true is no number."""
    is_bool = isinstance(value, bool | np.bool_)
    if not isinstance(value, kinds) or (is_bool and bool not in kinds):
        named = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{name}= is {named}, not {_kind(value)}.")


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name} ({value!r:.40})"
