"""The retriever for LlamaIndex, with the real package."""

from contextlib import closing

import pytest

pytest.importorskip("llama_index.core", reason="the extra llama-index is not installed")

from llama_index.core.schema import ImageNode, TextNode

from api.integrations.llama_index import MMSearchRetriever

pytestmark = pytest.mark.slow


def test_nodes_come_in_the_order_of_the_hits(source, found_library):
    retriever = MMSearchRetriever(source, similarity_top_k=4, rerank="none")
    with closing(retriever):
        nodes = retriever.retrieve("strudel with apples")
    expected = found_library.search("strudel with apples", k=4, modality="any", rerank="none")
    assert [found.node.node_id for found in nodes] == [str(h.item.id) for h in expected.hits]
    kinds = {type(found.node) for found in nodes}
    assert kinds == {ImageNode, TextNode}
    for found in nodes:
        if isinstance(found.node, ImageNode):
            assert found.node.image_path == found.node.metadata["path"]
        else:
            assert "six apples" in found.node.text
