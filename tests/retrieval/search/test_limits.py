"""Queries end where the limits say."""

import pytest

from retrieval.errors import UsageError
from retrieval.search.limits import (
    MAX_K,
    MAX_LITERAL,
    MAX_PARTS,
    MAX_RERANK_BUDGET_MS,
    MAX_RERANK_DEPTH,
    MAX_TEXT_LENGTH,
    MAX_WEIGHT,
)
from retrieval.search.query import Query, Reranking, TextPart

A_DOG = TextPart("a dog")


@pytest.mark.parametrize(
    ("most", "more"),
    [
        (lambda: Query((A_DOG,), k=MAX_K), lambda: Query((A_DOG,), k=MAX_K + 1)),
        (lambda: Query((A_DOG,) * MAX_PARTS), lambda: Query((A_DOG,) * (MAX_PARTS + 1))),
        (
            lambda: Query((TextPart("x" * MAX_TEXT_LENGTH),)),
            lambda: Query((TextPart("x" * (MAX_TEXT_LENGTH + 1)),)),
        ),
        (
            lambda: Query((TextPart("x", -MAX_WEIGHT),)),
            lambda: Query((TextPart("x", -MAX_WEIGHT * 1.01),)),
        ),
        (
            lambda: Query((A_DOG,), literal=("x",) * MAX_LITERAL),
            lambda: Query((A_DOG,), literal=("x",) * (MAX_LITERAL + 1)),
        ),
        (
            lambda: Reranking(depth=MAX_RERANK_DEPTH, budget_ms=MAX_RERANK_BUDGET_MS),
            lambda: Reranking(budget_ms=MAX_RERANK_BUDGET_MS + 1),
        ),
    ],
)
def test_a_query_may_reach_each_limit_and_no_more(most, more):
    most()
    with pytest.raises(UsageError):
        more()
