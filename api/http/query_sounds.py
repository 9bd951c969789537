"""Decode query sounds sent by clients, within limits."""

from collections.abc import Sequence

from api.http.query_images import content_of
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.audio import Samples, read_samples
from retrieval.search.query import MAX_SOUND_S, SOUND_RATE

__all__ = ["Samples", "read_query_sounds"]


def read_query_sounds(sounds: Sequence[tuple[str, str | bytes]]) -> list[Samples]:
    """Decode sound files, given as bytes or base64, each with its name in error messages.

    Called in a process of its own, since strangers send them (`DecodePool.run_apart`). Mono at
    `SOUND_RATE`, the first `MAX_SOUND_S` seconds. Raises UsageError for invalid base64 and for what
    is no sound.
    """
    return [_read(name, content_of(name, content)) for name, content in sounds]


def _read(name: str, content: bytes) -> Samples:
    try:
        return read_samples(content, SOUND_RATE, seconds=MAX_SOUND_S)
    except UnreadableFileError as error:
        raise UsageError(f"{name}: {error}.") from error
