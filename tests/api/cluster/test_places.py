"""Where replicas find their libraries."""

import pickle

import pytest

from api.cluster.places import Place
from retrieval.errors import MMSearchError
from retrieval.library import Library


def test_a_directory_is_opened(indexed_library: Library) -> None:
    place = pickle.loads(pickle.dumps(Place(str(indexed_library.path))))
    library, follower = place.open("cpu")
    assert library.path == indexed_library.path
    assert follower is None
    library.close()


@pytest.mark.slow
def test_a_copy_of_a_table_is_made_once_and_followed(indexed_library: Library) -> None:
    pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
    from retrieval.lance.export import export_library

    location = f"lance:{indexed_library.path.with_name('table')}"
    export_library(indexed_library, location)
    place = Place(str(indexed_library.path.with_name("copy")), location)
    for _ in range(2):
        library, follower = place.open("cpu")
        with library.catalog.snapshot() as snapshot:
            assert len(snapshot.items(library.space().id, limit=10)) == 6
        assert follower is not None
        follower.stop()
        library.close()


def test_a_directory_without_a_library(tmp_path: object) -> None:
    with pytest.raises(MMSearchError):
        Place(f"{tmp_path}/none").open("cpu")
