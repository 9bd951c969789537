import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from retrieval.media.hdr import HLG, PQ, tone_mapped, transfer_and_primaries
from retrieval.media.images import read_picture

TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Linear BT.709 to BT.2020 (BT.2087, 4.1)."""


def linear_of(srgb: np.ndarray) -> np.ndarray:
    value = srgb / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def as_pq(nits: np.ndarray) -> np.ndarray:
    """By the inverse EOTF of SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (nits / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def as_hlg(nits: np.ndarray) -> np.ndarray:
    """By the inverse OOTF and the OETF of BT.2100, for a display of 1,000 nits."""
    luma = (nits / 1000 @ np.array([0.2627, 0.6780, 0.0593]))[..., None]
    scene = nits / 1000 * np.maximum(luma, 1e-9) ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    log = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Smooth colors, (48, 64, 3), sRGB 0..255."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([40 + 3 * x, 200 - 3 * y, 60 + 1.5 * (x + y)], axis=-1).astype(np.float64)


def coded(scene: np.ndarray, transfer: int) -> np.ndarray:
    nits = 203 * np.clip(linear_of(scene) @ TO_BT2020.T, 0, 1)
    return as_pq(nits) if transfer == PQ else as_hlg(nits)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_what_is_no_brighter_than_white_looks_as_in_srgb(scene, transfer):
    image = Image.fromarray(np.round(coded(scene, transfer) * 255).astype(np.uint8))
    shown = np.asarray(tone_mapped(image, transfer, 9), float)
    assert np.abs(shown - scene).mean() < 4
    assert np.abs(np.asarray(image, float) - scene).mean() > 10  # as it was shown before


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_are_compressed_in_order(transfer):
    nits = np.linspace(1, 1000, 256)[None, :, None].repeat(3, axis=2)
    values = as_pq(nits) if transfer == PQ else as_hlg(nits)
    image = Image.fromarray(np.round(values * 255).astype(np.uint8))
    shown = np.asarray(tone_mapped(image, transfer, 9), int)[0, :, 1]
    assert (np.diff(shown) >= -5).all()  # within what interpolation does
    assert shown[-1] >= 250
    assert shown[52] < 250  # white paper is not the brightest


def test_other_pictures_stay_the_same():
    image = Image.new("RGB", (4, 4), "red")
    assert tone_mapped(image, 1, 1) is image
    assert tone_mapped(image.convert("L"), PQ, 9).mode == "L"


@pytest.mark.parametrize("ending", [".hif", ".heic"])
def test_a_still_of_ten_bits_is_tone_mapped(scene, tmp_path, ending):
    pillow_heif.register_heif_opener()
    values = np.round(coded(scene, PQ) * 65_535).astype(np.uint16)
    heif = pillow_heif.from_bytes(mode="RGB;16", size=(64, 48), data=values.tobytes())
    path = tmp_path / f"a{ending}"
    heif.save(
        path,
        format="HEIF",
        quality=95,
        color_primaries=9,
        transfer_characteristics=PQ,
        matrix_coefficients=9,
    )
    assert np.abs(np.asarray(read_picture(path).image, float) - scene).mean() < 6


def test_how_the_primary_image_is_coded_is_found_in_its_boxes():
    pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    heif = pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red"))
    heif.save(stream, format="HEIF", color_primaries=9, transfer_characteristics=HLG)
    assert transfer_and_primaries(stream.getvalue()) == (HLG, 9)
    for content in (b"", b"\0\0\0\x0cftyp", stream.getvalue()[:60], bytes(100)):
        assert transfer_and_primaries(content) is None
