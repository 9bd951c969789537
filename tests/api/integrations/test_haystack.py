"""The retriever for Haystack, with the real package."""

from contextlib import closing

import pytest

pytest.importorskip("haystack", reason="the extra haystack is not installed")

from haystack import Pipeline

from api.integrations.haystack import MMSearchRetriever

pytestmark = pytest.mark.slow


def test_documents_come_in_the_order_of_the_hits(source, found_library):
    retriever = MMSearchRetriever(source, top_k=2, options={"rerank": "none"})
    with closing(retriever):
        documents = retriever.run("strudel with apples")["documents"]
        assert len(retriever.run("strudel", top_k=1)["documents"]) == 1
    expected = found_library.search("strudel with apples", k=2, modality="any", rerank="none")
    assert [document.id for document in documents] == [str(h.item.id) for h in expected.hits]


def test_a_pipeline_with_it_is_written_down_and_read(found_library):
    pipeline = Pipeline()
    retriever = MMSearchRetriever(str(found_library.path), options={"rerank": "none"})
    pipeline.add_component("find", retriever)
    written = pipeline.dumps()
    retriever.close()
    again = Pipeline.loads(written, allowed_modules=["api.integrations.haystack"])
    found = again.run({"find": {"query": "strudel"}})["find"]["documents"]
    again.get_component("find").close()
    assert any("six apples" in document.content for document in found)
