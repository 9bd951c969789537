"""Open containers of video and sound with PyAV: one self-contained file, which names no other."""

import os
from typing import TYPE_CHECKING, BinaryIO, Self

from retrieval.errors import UnreadableFileError
from retrieval.objects.opening import open_path

if TYPE_CHECKING:
    from av.container import InputContainer


class OpenMedia:
    """An open file of video or sound.

    damage: why the part that could not be decoded so far could not; None: no such part.
    """

    _container: "InputContainer"

    def __init__(self, source: str | BinaryIO) -> None:
        """Open a file by its path, or take an open one; it is closed where this fails."""
        self.damage: str | None = None
        self._file = open_path(source) if isinstance(source, str) else source
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def _open(self) -> None:
        """Open the container of the file; raises UnreadableFileError."""
        raise NotImplementedError


def open_container(file: BinaryIO, what: str, formats: str) -> "InputContainer":
    """Open an open file as a container.

    Args:
        file: The file; the caller closes it.
        what: What it should be, for errors: "a video".
        formats: Names of FFmpeg's formats, separated by commas. Playlists (HLS, DASH, concat) and
            scripts, which name other files or addresses, must not be among them.

    Raises:
        UnreadableFileError: It is none of them.
    """
    import av

    try:
        # Handing over an open file, and refusing to open more, keeps whatever a file names out
        # of reach, even if some format should follow references.
        return av.open(
            file,
            mode="r",
            container_options={"format_whitelist": formats, "protocol_whitelist": ""},
            metadata_errors="replace",
            io_open=_refuse_to_open,
        )
    except decoding_errors() as error:
        file.seek(0)
        reason = reason_of(error) if file.read(1) else "the file is empty"
        raise UnreadableFileError(f"cannot be opened as {what}: {reason}") from None


def decoding_errors() -> tuple[type[Exception], ...]:
    """List the errors of broken content; OSError where an offset points outside the file."""
    import av

    return av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError


def reason_of(error: Exception) -> str:
    """Say why something could not be decoded, as the end of a sentence."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise PermissionError(f"a file may not open other files: {os.fsdecode(url)}")
