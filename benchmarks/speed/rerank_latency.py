"""Latency of reranking, compared with encoding the text of a query."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.photo_maker import found_files
from retrieval.encoders.base import Encoder, Pixels, Tokens, Vectors
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media import Modality
from retrieval.media.images import read_image
from retrieval.rerankers.base import Reranker
from retrieval.search.candidates import Candidates
from retrieval.search.ordering import rank_by_vector
from retrieval.search.rerank import text_scorer

QUERIES = (
    "a dog runs along the beach",
    "two children play football in a park",
    "a red car in front of an old house",
    "a man in a blue jacket climbs a snowy mountain",
    "people sit at a table and eat",
    "a black cat sleeps on a sofa next to a window",
    "sunset over the sea",
    "a woman with a camera takes a picture of a bridge at night",
)
"""Typical queries and captions; each round takes the next one."""

_IMAGES_PER_BATCH = 16


@dataclass(frozen=True)
class RerankingLatency:
    """Latencies in milliseconds, one of each kind per round.

    encode_ms: encoding a query text. rerank_ms: computing its tokens, matching `candidates` images
    with tokens cached as float16, combining and sorting. ratio: median rerank_ms / median
    encode_ms. image_tokens_per_second: images per second of `Reranker.image_tokens`, without
    decoding; done once per image of a library.
    """

    reranker: str
    candidates: int
    encode_ms: list[float]
    rerank_ms: list[float]
    ratio: float
    image_tokens_per_second: float

    @property
    def median_encode_ms(self) -> float:
        """Median of the encodings of a query."""
        return statistics.median(self.encode_ms)

    @property
    def median_rerank_ms(self) -> float:
        """Median of the rerankings."""
        return statistics.median(self.rerank_ms)


def measure_reranking(
    photos: Path,
    encoder: Encoder,
    reranker: Reranker,
    *,
    candidates: int = 50,
    rounds: int = 20,
) -> RerankingLatency:
    """Measure reranking of the first `candidates` readable photos below a folder.

    A round encodes one text of `QUERIES` and then reranks all candidates for it, so that both are
    measured under the same load of the machine.

    Args:
        photos: Folder of photos.
        encoder: Encoder of the queries and photos.
        reranker: The reranker.
        candidates: Number of photos to rerank.
        rounds: Number of measurements.

    Raises:
        UsageError: There are fewer photos than candidates.
    """
    pixels, vectors = _read(photos, encoder, reranker, candidates)
    reranker.image_tokens(pixels[:1])  # the first calls allocate memory
    began = time.perf_counter()
    batches = [
        reranker.image_tokens(pixels[start : start + _IMAGES_PER_BATCH])
        for start in range(0, candidates, _IMAGES_PER_BATCH)
    ]
    rate = candidates / (time.perf_counter() - began)
    values = np.concatenate([batch.values.astype(np.float16) for batch in batches])
    mask = np.concatenate([batch.mask for batch in batches])
    for text in QUERIES:  # the first call for each text length is slower
        _rerank(reranker, text, encoder.encode(Modality.TEXT, [text])[0], vectors, values, mask)
    encode_ms, rerank_ms = [], []
    for number in range(rounds):
        text = QUERIES[number % len(QUERIES)]
        began = time.perf_counter()
        [vector] = encoder.encode(Modality.TEXT, [text])
        encode_ms.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        _rerank(reranker, text, vector, vectors, values, mask)
        rerank_ms.append(1000 * (time.perf_counter() - began))
    return RerankingLatency(
        reranker=reranker.name,
        candidates=candidates,
        encode_ms=encode_ms,
        rerank_ms=rerank_ms,
        ratio=statistics.median(rerank_ms) / statistics.median(encode_ms),
        image_tokens_per_second=rate,
    )


def _rerank(
    reranker: Reranker,
    text: str,
    vector: NDArray[np.float32],
    vectors: Vectors,
    values: NDArray[np.float16],
    mask: NDArray[np.bool_],
) -> Candidates:
    """Order n images for a text, best first, as the engine does with cached tokens."""
    scorer = text_scorer(reranker, reranker.text_tokens([text]), [1.0])
    rows = np.arange(len(vectors))
    candidates = Candidates.of(rows, rows, vectors @ vector)
    match = scorer.score(Tokens(values.astype(np.float32), mask))
    return rank_by_vector(candidates, match, scorer.weight)


def _read(photos: Path, encoder: Encoder, reranker: Reranker, count: int) -> tuple[Pixels, Vectors]:
    """Preprocess and encode the first `count` readable photos."""
    pixels: list[Pixels] = []
    vectors: list[Vectors] = []
    for file in found_files(photos):
        if len(pixels) == count:
            break
        try:
            image = read_image(file.path)
        except (OSError, UnreadableFileError):
            continue
        pixels.append(reranker.preprocess(image))
        vectors.append(encoder.encode(Modality.IMAGE, encoder.preprocess(image)[np.newaxis]))
    if len(pixels) < count:
        raise UsageError(
            f"There are {len(pixels):,} readable photos in {photos}, but {count:,} are needed: use "
            f"a larger folder or a smaller --candidates."
        )
    return np.stack(pixels), np.concatenate(vectors)
