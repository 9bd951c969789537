"""A library with pictures and a text, and a service over it."""

import pytest
from PIL import Image

from api.client import Client
from indexer.pipeline import index_sources
from retrieval.library import create_library


@pytest.fixture(scope="session")
def found_library(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("found")
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (60, 40), colour).save(folder / f"{colour}.png")
    (folder / "note.txt").write_text("The strudel needs six apples and a little butter.")
    library = create_library(folder / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder], workers=1)
    yield library
    library.close()


@pytest.fixture(scope="session")
def found_service(found_library, running_service):
    with running_service(found_library, found_library.path.parent) as service:
        yield service


@pytest.fixture(params=["library", "directory", "client", "address"])
def source(request, found_library, found_service):
    """All that can be searched."""
    if request.param == "client":
        with Client(found_service.address) as client:
            yield client
    else:
        yield {
            "library": found_library,
            "directory": str(found_library.path),
            "address": found_service.address,
        }[request.param]
