import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.recognition.base import Task
from tests.block_codes import BlockReader, save


@pytest.mark.slow
def test_texts_of_a_picture_and_of_its_passage(tmp_path, tiny_encoder):
    save(tmp_path / "photos" / "sign.png", "Exit\nleft")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "photos"], workers=1)
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        [picture] = client.get("/v1/items").json()["items"]
        assert picture["found_by"] is None
        assert client.get(f"/v1/items/{picture['item_id']}/texts").json() == {"texts": []}
        enrich(library, tiny_encoder, Task.OCR, BlockReader)
        [_, passage] = client.get("/v1/items").json()["items"]
        assert (passage["found_by"], passage["modality"]) == ("ocr", "text")
        assert passage["thumbnail"] is not None
        for item in (picture, passage):
            [found] = client.get(f"/v1/items/{item['item_id']}/texts").json()["texts"]
            assert (found["task"], found["model"]) == ("ocr", "blocks/1")
            assert (found["text"], len(found["segments"])) == ("Exit\nleft", 2)
            assert len(found["segments"][0]["box"]) == 4
        assert client.get("/v1/items/999/texts").status_code == 404
