"""Text in pictures (optical character recognition, OCR) by the PP-OCR models of RapidOCR's package.

Nothing is ever downloaded: the networks are loaded here, from the files of the package, and
RapidOCR gets them loaded. Most photos show no text. So the detector first looks at a reduced
picture; only where it sees any, text is detected at a size at which it can be read, and recognised.
"""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from retrieval.errors import (
    EncoderUnavailableError,
    MissingExtraError,
    UsageError,
    import_errors_as,
)
from retrieval.machine import threads_of_networks
from retrieval.recognition.base import Box, Recognized, Segment, Task
from retrieval.recognition.reading_order import Corners, heights, lengths, reading_order

NAME = "rapidocr"
DETECTOR = "PP-OCRv6_det_small.onnx"
READER = "PP-OCRv6_rec_small.onnx"

_METHOD = 1
"""Number of what is done here with the models; part of the identity, since texts depend on it."""

GLANCE_PIXELS = 160_000
"""Of the picture that is looked at first; long ones, as receipts are, may have more."""
GLANCE_SCORE = 0.4
"""Least score of a box there for the picture to be read."""
_LEAST_CONTRAST = 12
"""Between the least and the largest value of a colour; an even area is taken for text otherwise."""
LEAST_PIXELS = 250_000
"""Of a picture in which text is detected; smaller ones are enlarged."""
MOST_PIXELS = 4_000_000
"""Of a picture in which text is detected at once; a page of paper at 190 dots an inch has them."""
_MOST_SIDE = 1600
"""Largest shorter side of longer ones, which are cut into tiles across, as receipts are."""
_MOST_ENLARGED = 4.0
_WANTED_HEIGHT = 24.0
"""Of the boxes of the smallest text: large letters alone are read at a smaller size."""
_BOX_SCORE = 0.5
_TILE = 1280
_OVERLAP = 192
_MOST_TILES = 16
_LEAST_NETWORK_SIDE = 64

LEAST_CONFIDENCE = 0.6
"""Of text that is kept."""
LEAST_CONFIDENCE_OF_ONE = 0.9
"""Of a single character, which textures are often taken for."""
_SURE = 0.9
"""Confidence of the longest lines below which the picture is also read in other directions."""
_SAMPLE = 6
_TALL = 1.5

Pixels = NDArray[np.uint8]
"""(height, width, 3) uint8, blue first, as the networks were trained."""


@dataclass(frozen=True, eq=False)
class _Lines:
    """What was read in the boxes of a picture that was turned by quarters, counterclockwise.

    corners: in the turned picture. sureness: mean confidence of the longest boxes.
    """

    turns: int
    corners: Corners
    texts: list[str]
    confidences: list[float]

    @property
    def sureness(self) -> float:
        size = lengths(self.corners)
        longest = np.argsort(-size)[:_SAMPLE]
        return float(np.average(np.array(self.confidences)[longest], weights=size[longest]))


def load_recognizer(name: str) -> "RapidOcr":
    """Load the recogniser of a name, of which there is one.

    Raises:
        UsageError: another name.
        MissingExtraError: RapidOCR is not installed.
        EncoderUnavailableError: its models are not where they should be, or cannot be loaded.
    """
    if name != NAME:
        raise UsageError(f"There is no recogniser {name!r} of text in pictures; there is: {NAME}.")
    return RapidOcr()


class RapidOcr:
    """Reads text in pictures: Chinese, English, Japanese and the languages of Latin script.

    Safe to call from several threads at once.

    Args:
        threads: Threads of one network; 0: as `limit_threads` said, else at most half of the cores.
        models: Folder of the models; None: that of the installed package.

    Raises:
        MissingExtraError: RapidOCR is not installed.
        EncoderUnavailableError: its models are not where they should be, or cannot be loaded.
    """

    task = Task.OCR
    least_side = 1400
    """Image files are read reduced while both sides keep as many pixels."""

    def __init__(self, *, threads: int = 0, models: Path | None = None) -> None:
        with import_errors_as(MissingExtraError("Texts in pictures", "ocr")):
            import rapidocr
            import rapidocr.utils.log  # which sets the level of its log
        folder = models or Path(str(resources.files(rapidocr))) / "models"
        names = DETECTOR, READER
        contents = [_content(folder / name) for name in names]
        threads = threads or threads_of_networks() or max(1, (os.cpu_count() or 1) // 2)
        finder, reader = (
            _session(content, name, threads) for content, name in zip(contents, names, strict=True)
        )
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self._glancer = _detector(finder, GLANCE_SCORE)
        self._detector = _detector(finder, _BOX_SCORE)
        self._reader = _text_reader(reader)
        digest = xxhash.xxh3_64_hexdigest(b"".join(contents))[:8]
        self.identity = (
            f"rapidocr-{metadata.version('rapidocr')} {Path(DETECTOR).stem} {Path(READER).stem} "
            f"{digest}.{_METHOD}"
        )

    def recognize(self, images: Sequence[Image.Image]) -> list[Recognized]:
        """Read upright RGB pictures; segments are lines, or parts of lines, in reading order."""
        return [self._recognized(image) for image in images]

    def may_have_text(self, image: Image.Image) -> bool:
        """Look at the reduced picture only; False where it is not worth reading."""
        return len(self._glance(image)) > 0

    def _recognized(self, image: Image.Image) -> Recognized:
        import cv2
        from rapidocr.inference_engine.onnxruntime.main import ONNXRuntimeError

        try:
            glanced = self._glance(image)
            return Recognized(self._read(image, glanced) if len(glanced) else ())
        except (ValueError, ArithmeticError, MemoryError, cv2.error, ONNXRuntimeError) as error:
            return Recognized(failure=f"its text cannot be recognised: {error}"[:300])

    def _glance(self, image: Image.Image) -> Corners:
        """Find boxes that may be text in the reduced picture, in pixels of the whole one."""
        shorter, longer = sorted(image.size)
        pixels = GLANCE_PIXELS * max(1.0, longer / shorter / 2)
        scale = min(1.0, math.sqrt(pixels / (shorter * longer)))
        page = _scaled(image, scale)
        if int(np.ptp(page, axis=(0, 1)).max()) < _LEAST_CONTRAST:
            return np.empty((0, 4, 2), np.float32)
        return _boxes(self._glancer, page) / np.float32(scale)

    def _read(self, image: Image.Image, glanced: Corners) -> list[Segment]:
        scale = _useful_scale(image, glanced)
        page = _scaled(image, scale)
        corners = self._found(page)
        if not len(corners):
            return []
        # Letters are read from the pixels that the picture has, if it was reduced to find them.
        if scale < 1:
            page, corners = _scaled(image, 1.0), corners / np.float32(scale)
        lines = self._best_lines(page, corners)
        segments = []
        size = page.shape[1::-1] if lines.turns % 2 == 0 else page.shape[:2]
        back = _turned(lines.corners, size, -lines.turns)
        for place in reading_order(lines.corners):
            text, confidence = lines.texts[place].strip(), lines.confidences[place]
            least = LEAST_CONFIDENCE if len(text) > 1 else LEAST_CONFIDENCE_OF_ONE
            if text and confidence >= least:
                segments.append(Segment(text, confidence, _fractions(back[place], page)))
        return segments

    def _found(self, page: Pixels) -> Corners:
        """Detect text tile by tile along the longer side."""
        if page.shape[0] * page.shape[1] <= 1.05 * MOST_PIXELS:
            return _boxes(self._detector, page)
        axis = int(page.shape[1] > page.shape[0])
        tiles = _tiles(page.shape[axis])
        found, is_cut = [], []
        for start, end in tiles:
            tile = page[start:end] if axis == 0 else page[:, start:end]
            corners = _boxes(self._detector, np.ascontiguousarray(tile))
            ends = corners[..., 1 - axis]
            is_cut.append((ends.min(1) < 2) & (start > 0))
            is_cut[-1] |= (ends.max(1) > end - start - 3) & (end < page.shape[axis])
            corners[..., 1 - axis] += start
            found.append(corners)
        return _once(np.concatenate(found), np.concatenate(is_cut))

    def _best_lines(self, page: Pixels, corners: Corners) -> _Lines:
        """Read boxes in the direction in which they are read with the most confidence."""
        longer = np.maximum(lengths(corners), heights(corners))
        is_tall = heights(corners) > _TALL * lengths(corners)
        is_sideways = longer[is_tall].sum() > longer[~is_tall].sum()
        first, *others = (1, 3, 0) if is_sideways else (0, 2)
        best = self._lines(page, corners, first)
        if best.sureness >= _SURE:
            return best
        longest = corners[np.argsort(-longer)[:_SAMPLE]]
        for turns in others:
            if self._lines(page, longest, turns).sureness > best.sureness:
                best = self._lines(page, corners, turns)
        return best

    def _lines(self, page: Pixels, corners: Corners, turns: int) -> _Lines:
        """Read boxes in a picture that is turned by quarters, counterclockwise."""
        turned = np.roll(_turned(corners, page.shape[1::-1], turns), -turns, axis=1)
        page = np.ascontiguousarray(np.rot90(page, turns))
        lines = [_cut_out(page, box) for box in turned]
        read = self._texts(lines)
        # A tall box in an upright picture is a column of characters, or text on its side.
        tall = np.flatnonzero(heights(turned) > _TALL * lengths(turned)).tolist()
        for place, column in zip(
            tall, self._texts([_laid_down(lines[i]) for i in tall]), strict=True
        ):
            read[place] = max(read[place], column, key=lambda one: one[1])
        return _Lines(turns, turned, [text for text, _ in read], [sure for _, sure in read])

    def _texts(self, lines: list[Pixels]) -> list[tuple[str, float]]:
        from rapidocr.ch_ppocr_rec.typings import TextRecInput

        if not lines:
            return []
        read = self._reader(TextRecInput(img=lines))
        return list(zip(read.txts, map(float, read.scores), strict=True))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EncoderUnavailableError(
            f"The model {path} of RapidOCR cannot be read ({error.strerror}). It comes with the "
            "package: pip install --force-reinstall --no-deps 'rapidocr>=3.10,<4'"
        ) from error


def _session(content: bytes, name: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # which keeps what the largest picture took
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EncoderUnavailableError(f"Cannot load the model {name}: {error}") from error
    return session


def _settings(task: str, session: Any, **settings: Any) -> Any:
    """Take the settings of RapidOCR for a task, with a network that is loaded already."""
    from omegaconf import OmegaConf
    from rapidocr.main import DEFAULT_CFG_PATH
    from rapidocr.utils.parse_parameters import ParseParams

    told = {**ParseParams.load(DEFAULT_CFG_PATH)[task], "session": session, **settings}
    return OmegaConf.create(told, flags={"allow_objects": True})


def _detector(session: Any, least_score: float) -> Any:
    from rapidocr.ch_ppocr_det import TextDetector

    # The size of pictures is decided here: the detector only rounds it.
    settings = {"limit_type": "max", "limit_side_len": 1 << 20, "box_thresh": least_score}
    return TextDetector(_settings("Det", session, **settings))


def _text_reader(session: Any) -> Any:
    from rapidocr.ch_ppocr_rec import TextRecognizer

    if "character" not in session.get_modelmeta().custom_metadata_map:
        raise EncoderUnavailableError(
            f"The model {READER} does not tell its characters: install rapidocr of a version from "
            "3.10 to 3.x."
        )
    return TextRecognizer(_settings("Rec", session, font_path=None))


def _scaled(image: Image.Image, scale: float) -> Pixels:
    """Make pixels of an RGB picture, larger or smaller, blue first."""
    if scale != 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


def _useful_scale(image: Image.Image, glanced: Corners) -> float:
    """Decide the scale at which the smallest text that was seen can be read."""
    pixels = image.width * image.height
    most = math.sqrt(MOST_PIXELS / pixels)
    if _runs_across(image, glanced):
        shorter, longer = sorted(image.size)
        most = max(most, min(_MOST_SIDE / shorter, _MOST_TILES * _TILE / longer))
    smallest = float(np.percentile(np.minimum(heights(glanced), lengths(glanced)), 10))
    least = math.sqrt(LEAST_PIXELS / pixels)
    return min(max(_WANTED_HEIGHT / max(smallest, 1.0), least), most, _MOST_ENLARGED)


def _runs_across(image: Image.Image, corners: Corners) -> bool:
    """Return whether lines of text run across the longer side, so that tiles cut few of them."""
    wide, tall = lengths(corners).sum(), heights(corners).sum()
    return bool(wide > tall) == (image.height > image.width)


def _boxes(detector: Any, page: Pixels) -> Corners:
    """Detect text: (n, 4, 2) float32, the corners in pixels."""
    missing = [(0, max(0, _LEAST_NETWORK_SIDE - side)) for side in page.shape[:2]]
    found = detector(np.pad(page, [*missing, (0, 0)], mode="edge"))
    if found.boxes is None:
        return np.empty((0, 4, 2), np.float32)
    boxes: Corners = np.asarray(found.boxes, np.float32)
    return boxes


def _tiles(length: int) -> list[tuple[int, int]]:
    """Cut a side, which is longer than a tile, into overlapping parts of one length."""
    count = math.ceil((length - _OVERLAP) / (_TILE - _OVERLAP))
    step = (length - _TILE) / (count - 1)
    return [(round(place * step), round(place * step) + _TILE) for place in range(count)]


def _once(corners: Corners, is_cut: NDArray[np.bool_]) -> Corners:
    """Leave out boxes whose centre lies in another one, first those that an edge cuts."""
    area = lengths(corners) * heights(corners)
    centres = corners.mean(1)
    kept: list[int] = []
    is_left = np.ones(len(corners), np.bool_)
    for place in np.lexsort((-area, is_cut)):
        if not is_left[place]:
            continue
        kept.append(place)
        origin, right, _, down = corners[place]
        inside = np.ones(len(corners), np.bool_)
        for side in (right - origin, down - origin):
            share = (centres - origin) @ side / max(float(side @ side), 1e-6)
            inside &= (share > 0) & (share < 1)
        is_left &= ~inside
    return corners[kept]


def _turned(corners: Corners, size: tuple[int, int], turns: int) -> Corners:
    """Turn points with a picture of a size (width, height) by quarters, counterclockwise."""
    width, height = size
    for _ in range(turns % 4):
        corners = np.stack([corners[..., 1], width - corners[..., 0]], axis=-1)
        width, height = height, width
    return corners


def _cut_out(page: Pixels, box: Corners) -> Pixels:
    """Cut the picture of a line out, levelled; tall boxes are turned by a quarter."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    line: Pixels = get_rotate_crop_image(page, box.copy())
    return line


def _laid_down(line: Pixels) -> Pixels:
    """Lay the characters of a column, which are about square, side by side.

    line: the column as `_cut_out` gives it, turned counterclockwise.
    """
    column = np.rot90(line, -1)
    count = max(1, round(column.shape[0] / column.shape[1]))
    side = column.shape[0] // count
    return np.concatenate([column[i * side : (i + 1) * side] for i in range(count)], axis=1)


def _fractions(box: Corners, page: Pixels) -> Box:
    height, width = page.shape[:2]
    corners = [(float(x) / width, float(y) / height) for x, y in box]
    return corners[0], corners[1], corners[2], corners[3]
