from benchmarks.catalog.library_maker import ROOT, SPACE, make_library
from retrieval.media import MediaKind, Modality
from retrieval.search.engine import Engine


def test_a_library_has_what_it_says(tmp_path):
    told = []
    library = make_library(tmp_path / "one", 300, on_progress=lambda *step: told.append(step))
    facets = Engine(library, device="cpu").facets()
    assert facets.total == 300
    assert told[-1] == ("files", 300, 300)
    assert {kind.value for kind in facets.kinds} == {"image", "video", "document"}
    assert len(facets.years) in {15, 16}
    assert len(facets.cameras) > 15
    assert facets.cameras[0].count > 5 * facets.cameras[-1].count
    assert set(facets.columns) == {"album", "caption", "rating"}
    assert facets.folders[0].value == ROOT
    with library.catalog.snapshot() as snapshot:
        assert snapshot.kinds()[MediaKind.TABLE] == 1
        items = snapshot.items(SPACE.id, limit=300)
        details = [snapshot.details(item) for item in items]
        located = sum(found.metadata.latitude is not None for found in details)
        assert 100 < located < 200
        assert sum(bool(found.annotations) for found in details) == 100
        found = snapshot.text_matches(SPACE.id, Modality.IMAGE, "dog", limit=300)
        assert 10 < len(found) < 100
    library.close()


def test_a_seed_makes_the_same_library(tmp_path):
    libraries = [make_library(tmp_path / str(seed), 120, seed=seed // 2) for seed in range(3)]
    facets = [Engine(library, device="cpu").facets() for library in libraries]
    assert facets[0] == facets[1]
    assert facets[0] != facets[2]
    for library in libraries:
        library.close()
