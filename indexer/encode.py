"""From a file to vectors, without a library: read, make ready for the encoder, encode.

What is here needs no state and may run on any machine. A sink then records what it gives, and
numbers it: `indexer.commit` in a library of this machine.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexer.decode import Content, is_stable, read_first, read_on
from indexer.decoder_pool import DecoderPool, ReadTimeoutError
from indexer.media.base import Annotation, Decoded, Locator, Piece, ReadOptions
from indexer.media.chunking import split
from indexer.scan import FoundFile
from indexer.sources import SourceOptions
from retrieval.catalog import FailedFile
from retrieval.encoders.base import Encoder, importable_preprocess, least_side, sound_input
from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.media import NO_METADATA, Metadata, Modality
from retrieval.media.images import default_max_pixels
from retrieval.media.places import place_name
from retrieval.objects.paths import is_uri

VectorKey = tuple[str, Modality, str]
"""What a vector is of: content hash, modality, part."""

_SHARE_OF_LIMIT = 0.4
"""Of the time limit of one read: after it a reader ends with what it has."""


@dataclass(frozen=True, slots=True)
class FileStep:
    """One step through a file: what it gave, with payloads as the encoder takes them.

    Long texts are not split yet. content is None where the file could not be read, for the reason
    in `failure`. decoded is None there, and where the content was known before.
    """

    found: FoundFile
    content: Content | None = None
    decoded: Decoded | None = None
    failure: FailedFile | None = None
    is_first: bool = True

    @property
    def next(self) -> int | None:
        """Return where the next step begins; None: this was the last."""
        return self.decoded.next if self.decoded else None


@dataclass(frozen=True, slots=True)
class EncodedPiece:
    """What becomes an item: where it is in its file, and its vector.

    text: the chunk, of a text. vector: (d,) float16, of unit norm; None: the sink has it already.
    """

    modality: Modality
    locator: Locator
    text: str | None = None
    vector: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class EncodedStep:
    """One step through a file, to be recorded.

    content: None where the file could not be read. is_known: it was not read on, since the sink
    knows its content. metadata: of the file, with the first step. is_first, is_last: whether it
    begins and ends the file. failure: why the file, or some of its pieces, cannot be searched.
    """

    found: FoundFile
    content: Content | None = None
    is_known: bool = False
    pieces: tuple[EncodedPiece, ...] = ()
    metadata: Metadata = NO_METADATA
    annotations: tuple[Annotation, ...] = ()
    notes: tuple[str, ...] = ()
    is_first: bool = True
    is_last: bool = True
    failure: FailedFile | None = None

    def key_of(self, piece: EncodedPiece) -> VectorKey:
        """Name the vector of one of its pieces."""
        assert self.content is not None
        return self.content.hash, piece.modality, piece.locator.part


def read_options(
    encoder: Encoder, source: SourceOptions, limit_s: float, max_pixels: int | None = None
) -> ReadOptions:
    """Say how the files of a source are read for an encoder; can be sent to other machines.

    Args:
        encoder: what the files are read for.
        source: options of the source.
        limit_s: time limit of one read, in seconds.
        max_pixels: limit of a picture's pixels, instead of the source's.
    """
    takes_images = Modality.IMAGE in encoder.modalities
    return ReadOptions(
        least_side=least_side(encoder) if takes_images else None,
        max_pixels=max_pixels or source.max_pixels or default_max_pixels(),
        preprocess=importable_preprocess(encoder) if takes_images else None,
        seconds=_SHARE_OF_LIMIT * limit_s,
        text_column=source.text_column,
        image_column=source.image_column,
        text_encoding=source.text_encoding,
        pictures=takes_images,
        sound=sound_input(encoder),
    )


def read_step(
    processes: DecoderPool,
    found: FoundFile,
    options: ReadOptions,
    known: frozenset[str] = frozenset(),
    before: FileStep | None = None,
) -> FileStep:
    """Take the first step through a file, or the one after another step.

    Args:
        processes: what reads it.
        found: the file.
        options: how it is read.
        known: content hashes that spare the reading.
        before: the step before.
    """
    decoded: Decoded | None
    try:
        if before is None or before.content is None or before.next is None:
            content, decoded = processes.submit(
                read_first, found.path, known, options, found.sidecars
            ).result()
        else:
            content = before.content
            decoded = processes.submit(read_on, found.path, before.next, content, options).result()
    except (OSError, UnreadableFileError) as error:
        if before is not None and before.content and isinstance(error, UnreadableFileError):
            rest = Decoded((), notes=(f"the rest could not be read: {error}",))
            return FileStep(found, before.content, rest, is_first=False)
        return FileStep(found, failure=failed_file(found, error))
    return FileStep(found, content, decoded, is_first=before is None)


def read_steps(
    processes: DecoderPool,
    found: FoundFile,
    options: ReadOptions,
    known: frozenset[str] = frozenset(),
) -> Iterator[FileStep]:
    """Read a file to its end, step by step, each of at most a few dozen pieces.

    As `read_step`. A file that cannot be read is one step with the failure.
    """
    step = read_step(processes, found, options, known)
    yield step
    while step.next is not None:
        step = read_step(processes, found, options, before=step)
        yield step


def ready(step: FileStep, encoder: Encoder) -> FileStep:
    """Leave out what an encoder does not take; turn images into its input, if they are not yet.

    May be called from several threads.
    """
    decoded = step.decoded
    if decoded is None:
        return step
    taken = [piece for piece in decoded.pieces if piece.modality in encoder.modalities]
    decoded = replace(decoded, pieces=tuple(taken))
    is_preprocessed = Modality.IMAGE in encoder.modalities and importable_preprocess(encoder)
    return replace(
        step, decoded=decoded if is_preprocessed else decoded.preprocessed(encoder.preprocess)
    )


def encode_steps(
    encoder: Encoder, steps: Iterable[FileStep], known: AbstractSet[VectorKey] = frozenset()
) -> list[EncodedStep]:
    """Encode steps that are `ready`, all together, in their order.

    Contents that several files share are encoded once, and long texts split into chunks that the
    encoder reads whole. A piece whose vector is not finite is left out, and its file has failed.

    Args:
        encoder: makes the vectors.
        steps: of any files.
        known: what is not encoded, since the sink has its vectors.
    """
    steps = [_with_chunks(step, encoder) for step in steps]
    vectors = _encode(encoder, steps, known)
    return [_encoded(step, vectors, known) for step in steps]


def failed_file(found: FoundFile, error: OSError | UnreadableFileError) -> FailedFile:
    """Record why a file failed; a reason that may pass by itself has it tried at the next run."""
    if isinstance(error, OSError):
        return FailedFile(found.path, (error.strerror or str(error)).lower())
    is_lasting = found.etag is not None or is_stable(found.mtime_ns, time.time_ns())
    is_slow = isinstance(error, ReadTimeoutError) and is_uri(found.path)  # perhaps its server
    if isinstance(error, MissingExtraError) or is_slow or not is_lasting:
        return FailedFile(found.path, str(error))
    return FailedFile(found.path, str(error), found.size, found.mtime_ns, found.etag)


def with_place(metadata: Metadata) -> Metadata:
    """Name the place of a file that has coordinates."""
    if metadata.latitude is None or metadata.longitude is None:
        return metadata
    return replace(metadata, place=place_name(metadata.latitude, metadata.longitude))


def _with_chunks(step: FileStep, encoder: Encoder) -> FileStep:
    """Split long texts into chunks that the encoder reads whole, each a piece of its own."""
    if step.decoded is None:
        return step
    pieces: list[Piece] = []
    for piece in step.decoded.pieces:
        if piece.modality is not Modality.TEXT:
            pieces.append(piece)
            continue
        chunks = split(piece.payload, encoder.token_count, encoder.context_length)
        for chunk in chunks:
            locator = piece.locator
            if len(chunks) > 1:
                locator = replace(locator, part=f"{locator.part}x{chunk.start}")
            pieces.append(Piece(Modality.TEXT, chunk.text, locator))
    return replace(step, decoded=replace(step.decoded, pieces=tuple(pieces)))


def _encode(
    encoder: Encoder, steps: Sequence[FileStep], known: AbstractSet[VectorKey]
) -> dict[VectorKey, NDArray[np.float16]]:
    """Make the vectors of what has none yet, without those that are not finite."""
    new: dict[Modality, dict[VectorKey, Piece]] = {}
    for step in steps:
        for key, piece in _pieces(step):
            if key not in known:
                new.setdefault(piece.modality, {})[key] = piece
    vectors: dict[VectorKey, NDArray[np.float16]] = {}
    for modality, pieces in new.items():
        rows = encoder.encode(modality, [piece.payload for piece in pieces.values()])
        halves = np.asarray(rows, np.float16)
        is_finite = np.logical_and.reduce(np.isfinite(halves), axis=1)
        found = zip(pieces, halves, is_finite, strict=True)
        vectors.update((key, half) for key, half, usable in found if usable)
    return vectors


def _encoded(
    step: FileStep,
    vectors: dict[VectorKey, NDArray[np.float16]],
    known: AbstractSet[VectorKey],
) -> EncodedStep:
    if step.decoded is None:
        is_known = step.content is not None
        return EncodedStep(
            step.found, step.content, is_known, is_first=step.is_first, failure=step.failure
        )
    pieces = tuple(
        EncodedPiece(
            piece.modality,
            piece.locator,
            piece.payload if piece.modality is Modality.TEXT else None,
            vectors.get(key),
        )
        for key, piece in _pieces(step)
        if key in vectors or key in known
    )
    failure = step.failure
    if len(pieces) < len(step.decoded.pieces):
        reason = "the encoder gave no finite vector"
        failure = failed_file(step.found, UnreadableFileError(reason))
    return EncodedStep(
        step.found,
        step.content,
        pieces=pieces,
        metadata=with_place(step.decoded.metadata),
        annotations=step.decoded.annotations,
        notes=step.decoded.notes,
        is_first=step.is_first,
        is_last=step.next is None,
        failure=failure,
    )


def _pieces(step: FileStep) -> Iterator[tuple[VectorKey, Piece]]:
    if step.decoded and step.content:
        for piece in step.decoded.pieces:
            yield (step.content.hash, piece.modality, piece.locator.part), piece
