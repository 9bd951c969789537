"""What is read of files on its way to the encoder, and what is committed together."""

import time
from dataclasses import dataclass, field
from typing import Any

from indexer.decode import Content, is_settled
from indexer.media.base import PicturePiece, TextPiece
from indexer.scan import FoundFile
from retrieval.catalog import FailedFile
from retrieval.encoders.base import Pixels
from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.media import NO_METADATA, Metadata


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """A picture as a file gave it, and as the encoder takes it."""

    piece: PicturePiece
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class FileRead:
    """What a file gave in one go: its pictures are ready for the encoder, its texts are not split.

    content is None where the file could not be read, for the reason in `failure`.
    """

    found: FoundFile
    content: Content | None = None
    failure: FailedFile | None = None
    is_known_content: bool = False
    pictures: tuple[PreparedPicture, ...] = ()
    texts: tuple[TextPiece, ...] = ()
    metadata: Metadata = NO_METADATA
    annotations: tuple[tuple[str, dict[str, Any]], ...] = ()
    is_first: bool = True
    next: int | None = None


@dataclass
class Batch:
    """What is committed together."""

    reads: list[FileRead] = field(default_factory=list)
    pictures: int = 0
    texts: int = 0

    def add(self, read: FileRead) -> None:
        """Take in what one step through a file gave."""
        self.reads.append(read)
        self.pictures += len(read.pictures)
        self.texts += len(read.texts)

    def is_full(self, size: int) -> bool:
        """Whether there is enough for the encoder, or too much to lose."""
        return max(self.pictures, self.texts) >= size or len(self.reads) >= 4 * size


def failed_file(found: FoundFile, error: OSError | UnreadableFileError) -> FailedFile:
    """Record why a file failed; a reason that may pass by itself has it tried at the next run."""
    if isinstance(error, OSError):
        return FailedFile(found.path, (error.strerror or str(error)).lower())
    is_lasting = is_settled(found.mtime_ns, time.time_ns())
    if isinstance(error, MissingExtraError) or not is_lasting:
        return FailedFile(found.path, str(error))
    return FailedFile(found.path, str(error), found.size, found.mtime_ns)
