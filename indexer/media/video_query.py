"""Read the frames of a video that is a query: its video-level vector is the mean of theirs."""

import os

from PIL import Image

from indexer.media import video
from indexer.media.base import ReadOptions
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import LEAST_SIDE

MOST_FRAMES = 12
"""Of as many parts as a query may have, so that texts and images can be added."""

MOST_S = 600.0
"""What of a video is looked at, in seconds from its beginning."""


def read_query_frames(path: str | os.PathLike[str]) -> list[Image.Image]:
    """Read the best frames of the shots of a video, at most 12 at even distances, upright RGB.

    The mean of the vectors of a video's frames, each of unit length, is the vector of the video
    (mean pooling, as in CLIP4Clip, Luo et al. 2021, arXiv:2104.08860, "parameter-free"); parts of
    equal weight are that mean. Raises UsageError for a file that cannot be read as a video.
    """
    options = ReadOptions(least_side=LEAST_SIDE)
    frames: list[Image.Image] = []
    stride = seen = 0
    start: int | None = 0
    try:
        while start is not None and start < 1000 * MOST_S:
            decoded = video.read(os.fspath(path), start, options)
            for piece in decoded.pieces:
                if seen % (2**stride) == 0:
                    frames.append(piece.payload)
                seen += 1
                if len(frames) > MOST_FRAMES:
                    frames = frames[::2]
                    stride += 1
            start = decoded.next
    except (OSError, UnreadableFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"The query video {os.fspath(path)}: {reason}.") from error
    return frames
