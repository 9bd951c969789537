"""Read the parts of a query from the command line: texts, images and sounds, with weights."""

import re
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media import MediaKind
from retrieval.search.query import AudioPart, ImagePart, ItemPart, TextPart, read_parts, read_sound

if TYPE_CHECKING:
    from PIL import Image

Part = TextPart | ImagePart | AudioPart | ItemPart

# No digit may follow: 16:9 and 10:30 are words.
_WEIGHTED = re.compile(
    r"\s*(\d{1,3}(?:\.\d{1,6})?|\.\d{1,6}):\s*(?=[^\d\s])(.*)", re.ASCII | re.DOTALL
)
_MOST_BYTES = 100 << 20
_TIME_LIMIT_S = 30.0


def parse_parts(
    text: str | None,
    *,
    image: str | None = None,
    audio: str | None = None,
    video: str | None = None,
    add: Iterable[str] = (),
    subtract: Iterable[str] = (),
    minus: Iterable[str] = (),
    like: Iterable[int] = (),
    weight: float = 1.0,
    literal: bool = False,
    text_may_be_image: bool = False,
) -> tuple[Part, ...]:
    """Read the parts of a query, in the order of these arguments.

    Args:
        text: Text to search for.
        image: File or address of an image to search for.
        audio: File of a sound to search for.
        video: File of a video to search for; its frames have the weight of one part together.
        add: Further texts, files of images and sounds, and addresses of images.
        subtract: Texts, images and sounds that hits should be unlike.
        minus: Texts that hits should be unlike.
        like: Ids of items to be near to.
        weight: Factor of the weight of the text.
        literal: Take `2:cat` as it is, not as `cat` with the weight 2.
        text_may_be_image: A text that names a file of an image or a sound, or is the address of an
            image, is that.

    Raises:
        UsageError: An image, a sound or a video cannot be read; a weight is not above 0, or is of
            no text.
    """
    if not weight > 0:
        raise UsageError("--weight takes a number above 0; --subtract makes hits unlike a part.")
    if weight != 1 and text is None:
        raise UsageError(
            "--weight is that of the text: give one, or weigh a part, as in 2:cat.jpg."
        )
    parts: list[Part] = []
    if text is not None:
        main = _text_or_file(text, literal) if text_may_be_image else _text(text, literal)
        parts.append(replace(main, weight=main.weight * weight))
    if image is not None:
        factor, name = _split(image, literal=literal)
        parts.append(ImagePart(_read(name), factor))
    if audio is not None:
        factor, name = _split(audio, literal=literal)
        parts.append(_read_sound(name, factor))
    if video is not None:
        from indexer.media.video_query import read_query_frames

        factor, name = _split(video, literal=literal)
        frames = read_query_frames(Path(name).expanduser())
        parts += [ImagePart(frame, factor / len(frames)) for frame in frames]
    parts += [_text_or_file(one, literal) for one in add]
    unwanted = (_text_or_file(one, literal) for one in subtract)
    parts += [replace(part, weight=-part.weight) for part in unwanted]
    parts += [TextPart(one, -1.0) for one in minus]
    parts += [ItemPart(item_id) for item_id in like]
    return tuple(parts)


def _text(text: str, literal: bool) -> TextPart:
    weight, rest = _split(text, literal=literal)
    return TextPart(rest, weight)


def _text_or_file(text: str, literal: bool) -> TextPart | ImagePart | AudioPart:
    weight, rest = _split(text, literal=literal)
    kind = None if _is_address(rest) else _kind_of_file(rest)
    if _is_address(rest) or kind is MediaKind.IMAGE:
        return ImagePart(_read(rest), weight)
    return _read_sound(rest, weight) if kind is MediaKind.AUDIO else TextPart(rest, weight)


def _split(text: str, *, literal: bool) -> tuple[float, str]:
    """Split `2:cat` into its weight and the rest; the weight of all others is 1."""
    found = None if literal else _WEIGHTED.fullmatch(text)
    return (float(found[1]), found[2]) if found else (1.0, text)


def _is_address(text: str) -> bool:
    return text.lower().startswith(("http://", "https://")) and " " not in text.strip()


def _kind_of_file(text: str) -> MediaKind | None:
    """Return the kind of a file that is there; None: it is no file, or of no known format."""
    from retrieval.media.registry import kind_of

    try:
        return kind_of(text) if Path(text).expanduser().is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _read_sound(name: str, weight: float) -> AudioPart:
    return read_sound(Path(name).expanduser(), f"The query sound {name}", weight)


def _read(name: str) -> "Image.Image":
    if not _is_address(name):
        [part] = read_parts(image=Path(name).expanduser())
        assert isinstance(part, ImagePart)
        return part.image
    return _fetch(name.strip())


def _fetch(address: str) -> "Image.Image":
    """Download an image that the user named, up to a size and a time; it is kept in no file."""
    import httpx

    from retrieval.media.images import read_image

    content, end = bytearray(), time.monotonic() + _TIME_LIMIT_S
    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=_TIME_LIMIT_S) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise UsageError(f"{address} is larger than {_MOST_BYTES >> 20} MiB.")
                if time.monotonic() > end:  # the time limit of HTTPX begins anew with each byte
                    raise UsageError(f"{address} took longer than {_TIME_LIMIT_S:g} s.")
        return read_image(bytes(content), name=httpx.URL(address).path)
    except httpx.HTTPStatusError as error:
        raise UsageError(f"{address} answers {error.response.status_code}.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UsageError(f"{address} cannot be downloaded: {error}.") from error
    except UnreadableFileError as error:
        raise UsageError(f"The query image {address}: {error}.") from error
