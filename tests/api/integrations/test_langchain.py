"""The retriever for LangChain, with the real package."""

from contextlib import closing

import pytest

pytest.importorskip("langchain_core", reason="the extra langchain is not installed")

from api.integrations.langchain import MMSearchRetriever

pytestmark = pytest.mark.slow


def test_documents_come_in_the_order_of_the_hits(source, found_library):
    retriever = MMSearchRetriever(source=source, k=2, options={"rerank": "none"})
    with closing(retriever):
        documents = retriever.invoke("strudel with apples")
    expected = found_library.search("strudel with apples", k=2, modality="any", rerank="none")
    assert [document.id for document in documents] == [str(h.item.id) for h in expected.hits]
    assert documents[0].metadata["path"] == expected.hits[0].path


def test_it_is_part_of_a_chain(found_library):
    from langchain_core.runnables import RunnableLambda

    retriever = MMSearchRetriever(source=found_library, options={"rerank": "none"})
    chain = retriever | RunnableLambda(lambda found: [d.page_content for d in found])
    assert any("six apples" in text for text in chain.invoke("strudel"))
