import pytest

from retrieval.errors import UsageError
from retrieval.rerankers.cross_attention import CrossAttentionReranker
from retrieval.rerankers.registry import load_reranker


def test_rerankers_by_name(tiny_fusion, tiny_encoder):
    assert load_reranker("none", tiny_encoder) is None
    for name in (f"cross-attention:{tiny_fusion}", f"fusion:{tiny_fusion}"):
        loaded = load_reranker(name, tiny_encoder, "cpu")
        assert isinstance(loaded, CrossAttentionReranker)
        assert loaded.name == f"fusion:{tiny_fusion}"


@pytest.mark.parametrize("name", ["", "frob", "Fusion", "cross:x", "auto:x", "none:x"])
def test_unknown_names_are_refused(name, tiny_encoder):
    with pytest.raises(UsageError, match="There is no reranker"):
        load_reranker(name, tiny_encoder)
