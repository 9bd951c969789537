"""Read camera RAW files by LibRaw: orientation, embedded preview and developed image."""

from datetime import datetime
from typing import Any, BinaryIO, Self

import numpy as np
from PIL import Image

from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as

_ORIENTATION_OF_FLIP = (1, 2, 4, 3, 5, 8, 6, 7)
"""EXIF orientations of LibRaw's flips: bit 0 mirrors, bit 1 flips vertically, bit 2 transposes."""


class CameraRaw:
    """An open camera RAW file, for use in a `with` statement.

    orientation: of the stored image, as EXIF numbers them. stored_size: width and height of the
    sensor's image in pixels, as stored; size: the same, upright. sensor_size: with the sensor's
    masked borders. Raises UnreadableFileError for what LibRaw cannot open,
    MissingExtraError without rawpy.
    """

    def __init__(self, file: BinaryIO) -> None:
        with import_errors_as(MissingExtraError("Camera RAW files", "raw")):
            import rawpy
        self._rawpy: Any = rawpy
        self._raw = self._rawpy.RawPy()
        try:
            self._raw.open_buffer(file)
        except self._rawpy.LibRawError as error:
            self._raw.close()
            raise UnreadableFileError(f"not a readable RAW file: {_reason(error)}") from error
        sizes = self._raw.sizes
        self.orientation: int = _ORIENTATION_OF_FLIP[sizes.flip & 7]
        self.stored_size: tuple[int, int] = (sizes.width, sizes.height)
        self.size = self.stored_size[::-1] if self.orientation >= 5 else self.stored_size
        self.sensor_size: tuple[int, int] = (sizes.raw_width, sizes.raw_height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    @property
    def timestamp(self) -> datetime | None:
        """Date and time by the camera's clock, without a zone; None if LibRaw finds none."""
        other = getattr(self._raw, "other", None)  # since rawpy 0.25
        return getattr(other, "timestamp", None)

    def preview(self) -> bytes | Image.Image | None:
        """Extract the camera's own preview: a JPEG's bytes or an image, as stored; None without.

        A JPEG may have an orientation in its own EXIF, right or wrong.
        """
        try:
            thumbnail = self._raw.extract_thumb()
        except self._rawpy.LibRawError:
            return None
        if thumbnail.format == self._rawpy.ThumbFormat.JPEG:
            return bytes(thumbnail.data)
        return Image.fromarray(np.asarray(thumbnail.data))

    def developed(self) -> Image.Image:
        """Develop the sensor's image: upright RGB of half its width and height.

        Raises UnreadableFileError where the sensor's values cannot be read.
        """
        try:
            self._raw.unpack()
            pixels = self._raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8)
        except self._rawpy.LibRawError as error:
            raise UnreadableFileError(f"cannot be developed: {_reason(error)}") from error
        return Image.fromarray(pixels)


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text)) or "LibRaw"
