"""Read the tags of TIFF structures: EXIF blocks, TIFF files and most camera RAW files.

Only tags that describe a picture are read, each up to a size, in a fixed number of directories: no
file can cost more, however many directories it claims, and one broken tag does not hide the others.
ExifRead was considered instead: it reads texts of any size, and neither CR3 nor Latin-1.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

XMP_PACKET, IPTC_BLOCK, PHOTOSHOP_BLOCK = 700, 33723, 34377
_EXIF_DIRECTORY, _GPS_DIRECTORY = 34665, 34853

_MAGIC: Mapping[bytes, str] = {
    b"II*\0": "<",
    b"MM\0*": ">",
    b"II+\0": "<",
    b"MM\0+": ">",
    b"IIU\0": "<",  # Panasonic
    b"IIRO": "<",  # Olympus
    b"IIRS": "<",
    b"MMOR": ">",
}
_LARGE_OFFSETS = {b"II+\0", b"MM\0+"}

_OF_PICTURE = frozenset(
    (
        # ImageDescription, Make, Model, DateTime, XMP, Rating, RatingPercent, IPTC, Photoshop
        *(270, 271, 272, 306, XMP_PACKET, 18246, 18249, IPTC_BLOCK, PHOTOSHOP_BLOCK),
        # the directories of EXIF and GPS, XPTitle, XPComment, XPKeywords, XPSubject
        *(_EXIF_DIRECTORY, _GPS_DIRECTORY, 40091, 40092, 40094, 40095),
        # DateTimeOriginal, DateTimeDigitized, their offsets, UserComment
        *(36867, 36868, 36880, 36881, 36882, 37510),
    )
)
_OF_PLACE = frozenset((1, 2, 3, 4, 7, 9, 29))
"""Latitude and longitude with their references, time, status, date."""

_MOST_ENTRIES = 1000
_MOST_BYTES = 1 << 16
_MOST_BLOCK_BYTES = 4 << 20
_BLOCKS = {XMP_PACKET, IPTC_BLOCK, PHOTOSHOP_BLOCK}

_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q"}
_RATIOS = {5: "II", 10: "ii"}
_BYTES = {1: 1, 2: 1, 7: 1}

Tags = dict[int, Any]
"""Values by tag: bytes, or a tuple of numbers."""


@dataclass
class TiffTags:
    """Tags of the picture, those of its EXIF directory included, and of its place.

    is_damaged: a directory, or a value that is wanted, could not be read whole.
    """

    picture: Tags = field(default_factory=dict)
    place: Tags = field(default_factory=dict)
    is_damaged: bool = False


def is_tiff(head: bytes) -> bool:
    """Return whether these are the first bytes of a TIFF structure."""
    return head[:4] in _MAGIC


def read_tiff(file: BinaryIO, start: int = 0) -> TiffTags:
    """Read the tags of the first directory of a TIFF structure and of its EXIF and GPS directories.

    start: where the structure begins; its offsets count from there. What is broken is left out.
    """
    file.seek(start)
    head = file.read(16).ljust(16, b"\0")
    order = _MAGIC.get(head[:4])
    found = TiffTags()
    if order is None:
        return found
    is_large = head[:4] in _LARGE_OFFSETS
    where = struct.unpack_from(f"{order}Q" if is_large else f"{order}I", head, 8 if is_large else 4)
    reader = _Directories(file, start, order, is_large)
    found.picture = reader.read(where[0], _OF_PICTURE)
    for tag, wanted, tags in (
        (_EXIF_DIRECTORY, _OF_PICTURE, found.picture),
        (_GPS_DIRECTORY, _OF_PLACE, found.place),
    ):
        pointer = found.picture.get(tag)
        if isinstance(pointer, tuple) and pointer and pointer[0]:
            for key, value in reader.read(int(pointer[0]), wanted).items():
                tags.setdefault(key, value)
    found.is_damaged = reader.met_damage
    return found


def read_place_directory(file: BinaryIO, start: int) -> Tags:
    """Read the tags of a TIFF structure of which the first directory is that of the place."""
    file.seek(start)
    head = file.read(8)
    order = _MAGIC.get(head[:4])
    if order is None or len(head) < 8:
        return {}
    offset: int = struct.unpack_from(f"{order}I", head, 4)[0]
    return _Directories(file, start, order, is_large=False).read(offset, _OF_PLACE)


class _Directories:
    """The directories of one TIFF structure. met_damage: something could not be read whole."""

    def __init__(self, file: BinaryIO, start: int, order: str, is_large: bool) -> None:
        self._file = file
        self._start = start
        self._order = order
        self._number, self._entry = ("Q", "HHQ8s") if is_large else ("H", "HHI4s")
        self._offset = "Q" if is_large else "I"
        self.met_damage = False

    def read(self, offset: int, wanted: frozenset[int]) -> Tags:
        """Read some tags of the directory at an offset; the first of each counts."""
        head = self._read(offset, struct.calcsize(f"{self._order}{self._number}"))
        try:
            count = min(struct.unpack(f"{self._order}{self._number}", head)[0], _MOST_ENTRIES)
        except struct.error:
            self.met_damage = True
            return {}
        entry = struct.Struct(f"{self._order}{self._entry}")
        table = self._read(offset + len(head), count * entry.size)
        entries = list(entry.iter_unpack(table[: len(table) // entry.size * entry.size]))
        # Some writers leave room for entries behind theirs, as zeros.
        is_empty = count > 0 and not any(kind for _, kind, *_ in entries)
        self.met_damage |= len(entries) < count or is_empty
        tags: Tags = {}
        for tag, kind, number, value in entries:
            if tag in wanted and tag not in tags:
                read = self._value(tag, kind, number, value)
                if read is not None:
                    tags[tag] = read
        return tags

    def _value(self, tag: int, kind: int, number: int, value: bytes) -> Any:
        codes = _NUMBERS.get(kind) or _RATIOS.get(kind)
        unit = _BYTES.get(kind) or (codes and struct.calcsize(f"{self._order}{codes}"))
        if not unit:
            return None
        most = _MOST_BLOCK_BYTES if tag in _BLOCKS else _MOST_BYTES
        size = number * unit
        if tag in _BLOCKS and size > most:
            return None  # Half of a packet would be broken.
        size = min(size, most // unit * unit)
        if size > len(value):
            offset: int = struct.unpack(f"{self._order}{self._offset}", value)[0]
            data = self._read(offset, size)
            self.met_damage |= len(data) < size
        else:
            data = value[:size]
        if codes is None or tag in _BLOCKS:
            return data
        data = data[: len(data) // unit * unit]
        values = struct.unpack(f"{self._order}{codes[0] * (len(data) // unit * len(codes))}", data)
        if kind in _RATIOS:
            pairs = zip(values[::2], values[1::2], strict=True)
            return tuple(over / under if under else float("nan") for over, under in pairs)
        return values

    def _read(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(self._start + offset)
            return self._file.read(size)
        except (OSError, ValueError, OverflowError):
            return b""
