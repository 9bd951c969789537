"""Show pictures of high dynamic range (PQ and HLG) as others: tone mapped to sRGB."""

import functools
import struct
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273: SMPTE ST 2084 and ARIB STD-B67."""

_WHITE = 203.0
"""Luminance of white paper in HDR pictures, which is white in others, in nits (BT.2408, 2.1)."""

_HLG_PEAK = 1000.0

_PEAKS = (_WHITE, 400.0, 1000.0, 2000.0, 4000.0, 10_000.0)
"""Luminances that pictures are mapped from, in nits: the least that holds all but highlights."""

_HIGHLIGHTS = 0.001
"""Share of the pixels that may be brighter than what a picture is mapped from."""

_NODES = 33

_TO_BT709 = {
    # Of BT.2020 (BT.2087, 4.2), and of P3 with the white of daylight (SMPTE EG 432-1).
    9: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    12: ((1.2249, -0.2247, -0.0002), (-0.0421, 1.0419, 0.0002), (-0.0196, -0.0786, 1.0982)),
}
"""Linear RGB to that of BT.709 and sRGB, by the primaries' number in H.273."""

_Values = NDArray[np.float64]


def tone_mapped(image: Image.Image, transfer: int, primaries: int) -> Image.Image:
    """Map an RGB image of PQ or HLG values to sRGB.

    transfer, primaries: numbers of ITU-T H.273. An image of another transfer stays as it is.
    """
    if transfer not in {PQ, HLG} or image.mode != "RGB":
        return image
    red, green, blue = image.split()
    histogram = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()
    from_top = np.cumsum(histogram[::-1])[::-1]
    brightest = np.flatnonzero(from_top > _HIGHLIGHTS * from_top[0])[-1] / 255
    luminance = float(_luminance(np.full(3, brightest), transfer).max())
    peak = next((peak for peak in _PEAKS if luminance <= peak * 1.02), _PEAKS[-1])
    return image.filter(_table(transfer, primaries, peak))


def transfer_and_primaries(content: bytes) -> tuple[int, int] | None:
    """Find how the primary image of a HEIF or AVIF file is coded, by the numbers of H.273.

    content: of the file, or its beginning. None where it does not tell (ISO 23008-12, 6.5.5;
    ISO 14496-12, 12.1.5).
    """
    try:
        meta = next(body for kind, body in _boxes(content) if kind == b"meta")[4:]
        inside = dict(_boxes(meta))
        is_long = inside[b"pitm"][0] > 0
        primary = int.from_bytes(inside[b"pitm"][4 : 8 if is_long else 6], "big")
        properties = dict(_boxes(inside[b"iprp"]))
        listed = list(_boxes(properties[b"ipco"]))
        for number in _associated(properties[b"ipma"], primary):
            kind, body = listed[number - 1]
            if kind == b"colr" and body[:4] == b"nclx":
                color_primaries, transfer = struct.unpack_from(">HH", body, 4)
                return transfer, color_primaries
    except (IndexError, KeyError, StopIteration, struct.error):
        return None
    return None


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and body of the boxes in a row (ISO 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        if size == 0:
            size = len(content) - at
        if size < head:
            return
        yield kind, content[at + head : at + size]
        at += size


def _associated(body: bytes, item: int) -> list[int]:
    """Return the numbers of an item's properties, from 1 (ISO 23008-12, 9.3.1)."""
    version, flags, count = body[0], body[3], int.from_bytes(body[4:8], "big")
    at = 8
    for _ in range(count):
        width = 4 if version else 2
        owner, among = int.from_bytes(body[at : at + width], "big"), body[at + width]
        at += width + 1
        size = 2 if flags & 1 else 1
        numbers = [
            int.from_bytes(body[place : place + size], "big") & (0x7FFF if size == 2 else 0x7F)
            for place in range(at, at + among * size, size)
        ]
        if owner == item:
            return [number for number in numbers if number]
        at += among * size
    return []


@functools.lru_cache(maxsize=8)
def _table(transfer: int, primaries: int, peak: float) -> ImageFilter.Color3DLUT:
    """Tabulate the mapping at 33 values of each color; between them it is interpolated."""
    codes = np.linspace(0, 1, _NODES)
    blue, green, red = np.meshgrid(codes, codes, codes, indexing="ij")
    nits = _luminance(np.stack([red, green, blue], axis=-1), transfer)
    brightest = nits.max(axis=-1, keepdims=True)
    # One factor for the three keeps the hue.
    nits *= _compressed(brightest, peak) / np.maximum(brightest, 1e-6)
    linear = np.clip(nits / _WHITE, 0, 1)
    if (matrix := _TO_BT709.get(primaries)) is not None:
        linear = np.clip(linear @ np.array(matrix).T, 0, 1)
    # IEC 61966-2-1.
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table = cast("Any", np.ascontiguousarray(coded.reshape(-1), dtype=np.float32))
    return ImageFilter.Color3DLUT(_NODES, table)


def _luminance(codes: _Values, transfer: int) -> _Values:
    """Return the luminance of each color, in nits, of coded RGB 0..1 in the last axis."""
    if transfer == PQ:
        return _pq_to_nits(codes)
    # BT.2100, table 5: the inverse OETF, and the OOTF of a display of 1,000 nits.
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(_HLG_PEAK * scene * np.maximum(luma, 1e-9)[..., None] ** 0.2)


def _pq_to_nits(codes: _Values) -> _Values:
    """Decode by the EOTF of SMPTE ST 2084 (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    powered = np.maximum(codes, 0) ** (1 / m2)
    return np.asarray(10_000 * (np.maximum(powered - c1, 0) / (c2 - c3 * powered)) ** (1 / m1))


def _nits_to_pq(nits: _Values) -> _Values:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    powered = (np.maximum(nits, 0) / 10_000) ** m1
    return np.asarray(((c1 + c2 * powered) / (1 + c3 * powered)) ** m2)


def _compressed(nits: _Values, peak: float) -> _Values:
    """Compress luminances up to a peak into those up to white, from a knee on (BT.2390, 5.4.1)."""
    if peak <= _WHITE:
        return nits
    top = _nits_to_pq(np.array(peak))
    most = _nits_to_pq(np.array(_WHITE)) / top
    knee = 1.5 * most - 0.5
    value = np.minimum(_nits_to_pq(nits) / top, 1)
    t = (value - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * most
    )
    return _pq_to_nits(np.where(value < knee, value, spline) * top)
