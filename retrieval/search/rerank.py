"""The rerank stage of many queries: their texts at once, then each with its own candidates."""

import time
from collections.abc import Sequence

import numpy as np

from retrieval.catalog import Modality
from retrieval.encoders.base import Tokens
from retrieval.rerankers.base import ImageSimilarityReranker, Reranker
from retrieval.rerankers.stage import ImageReranking, TokenStore, stack_tokens
from retrieval.search.encode import QueryVectors
from retrieval.search.query import ImagePart, ItemPart, Mode, TextPart
from retrieval.search.state import Search

_UNREADABLE = (
    "The hits were not reranked: the file of the item to compare with is gone, changed or "
    "unreadable. `mmsearch index` brings the library up to date."
)


def can_rerank(reranker: Reranker, search: Search) -> bool:
    """Whether a reranker can look at what a query asks for and what it is to find."""
    if search.modality is not Modality.IMAGE or search.mode is Mode.TEXT:
        return False
    are_pictures = all(item.modality is Modality.IMAGE for item in search.items.values())
    return search.query.has_text or (are_pictures and isinstance(reranker, ImageSimilarityReranker))


def rerank(searches: Sequence[Search], vectors: QueryVectors, store: TokenStore) -> None:
    """Match the best candidates of queries with them, within the time that it may take.

    The time counts for all together: it is what each of them waits for. store: where the tokens of
    images are kept.
    """
    for reranker in {id(one.reranker): one.reranker for one in searches if one.reranker}.values():
        alike = [search for search in searches if search.reranker is reranker]
        texts = [part.text for s in alike for part in s.query.parts if isinstance(part, TextPart)]
        text_tokens = vectors.text_tokens(reranker, texts)
        since = None
        for search in alike:
            # Later pages rerank what the first one had the time for.
            budget_ms = None if search.cursor else search.reranking.budget_ms
            stage = ImageReranking(reranker, store, budget_ms, since)
            _match(search, stage, vectors, text_tokens)
            since = since or time.monotonic()


def _match(
    search: Search, stage: ImageReranking, vectors: QueryVectors, text_tokens: dict[str, Tokens]
) -> None:
    candidates = search.nearest.candidates[: search.to_rerank]
    items = [candidate.item for candidate in candidates]
    similarity = np.array([candidate.similarity for candidate in candidates], np.float32)
    if search.query.has_text:
        texts = [part for part in search.query.parts if isinstance(part, TextPart)]
        tokens = stack_tokens([text_tokens[part.text].values[0] for part in texts])
        weights = [part.weight for part in texts]
        search.outcome = stage.rank_by_texts(tokens, weights, items, similarity)
    else:
        images = []
        for part in search.query.parts:
            if isinstance(part, ImagePart):
                images.append(vectors.image_tokens(stage.reranker, part))
            elif isinstance(part, ItemPart) and (
                tokens_of_item := stage.tokens_of(search.items[part.item_id])
            ):
                images.append(tokens_of_item)
        weights = [part.weight for part in search.query.parts]
        if len(images) < len(weights):
            search.reranker = None
            search.warnings += (_UNREADABLE,)
            return
        search.outcome = stage.rank_by_images(images, weights, items, similarity)
    search.warnings += search.outcome.warnings
