import json
import statistics

import numpy as np
import pytest

from benchmarks.speed.rerank_latency import QUERIES, measure_reranking
from retrieval.encoders.base import Tokens
from retrieval.errors import UsageError


class RecordingReranker:
    """Remembers what it was asked."""

    name = "recording"
    identity = "recording/1"
    match_weight = 0.5
    depth = 10

    def __init__(self) -> None:
        self.image_batches: list[int] = []
        self.texts: list[str] = []
        self.matched: list[tuple[int, int]] = []

    def preprocess(self, image):
        return np.asarray(image.resize((4, 4)), np.float32)[..., 0]

    def image_tokens(self, pixels):
        self.image_batches.append(len(pixels))
        return Tokens(pixels / 256, np.ones(pixels.shape[:2], np.bool_))

    def text_tokens(self, texts):
        self.texts += texts
        return Tokens(np.ones((len(texts), 2, 4), np.float32), np.ones((len(texts), 2), np.bool_))

    def text_query_weight(self, texts):
        return np.ones(len(texts.values), np.float32)

    def image_query_weight(self, images):
        return np.ones(len(images.values), np.float32)

    def match(self, texts, images):
        assert images.values.dtype == np.float32
        self.matched.append((len(texts.values), len(images.values)))
        return images.values.mean(axis=(1, 2))[np.newaxis].repeat(len(texts.values), axis=0)


def test_both_are_measured_in_every_round(tiny_encoder, picture_folder):
    (picture_folder / "broken.png").write_bytes(b"no")
    reranker = RecordingReranker()
    result = measure_reranking(picture_folder, tiny_encoder, reranker, candidates=5, rounds=3)
    assert len(result.encode_ms) == len(result.rerank_ms) == 3
    assert min(result.encode_ms + result.rerank_ms) > 0
    assert result.ratio == statistics.median(result.rerank_ms) / result.median_encode_ms
    assert result.image_tokens_per_second > 0
    # Image tokens once, before any round; in each round, the text's own and the match.
    assert reranker.image_batches == [1, 5]
    assert reranker.texts == [*QUERIES, *QUERIES[:3]]
    assert set(reranker.matched) == {(1, 5)}
    json.dumps(vars(result))


def test_a_folder_with_fewer_photos_than_candidates_is_refused(tiny_encoder, picture_folder):
    with pytest.raises(UsageError, match=r"There are 6 readable photos .* --candidates"):
        measure_reranking(picture_folder, tiny_encoder, RecordingReranker(), candidates=7)
