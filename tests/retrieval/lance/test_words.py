import pytest

from retrieval.lance.library import as_table
from retrieval.lance.records import table_of as rows_of
from retrieval.lance.table import LanceTable
from retrieval.library import open_library
from retrieval.media import Modality
from tests.opened_tables import FILTERS, name_of, rich_twins

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytestmark = pytest.mark.slow

QUERIES = [
    "dog",
    "a red boat",
    "boats near Rome",
    "IMG 003",
    "img_0_00",
    "Berl",
    "paragraph 7",
    "whales of the sea",
    "second words x",
    "FUJIFILM X-T3",
    "2019 Paris",
    "zzz",
    "the",
    "",
]


@pytest.fixture(scope="module")
def twins(tmp_path_factory, tiny_encoder):
    return rich_twins(tmp_path_factory.mktemp("twins"), tiny_encoder)


def names_at_rows(snapshot, space_id, modality, rows, where):
    found = snapshot.items_at(space_id, modality, rows, where)
    return {row: [name_of(item) for item in items] for row, items in found.items()}


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.TEXT])
def test_words_find_what_they_find_in_a_catalog_with_the_same_scores(twins, where, modality):
    space_id = twins.library.space().id
    found_any = False
    for query in QUERIES:
        told, best = [], []
        for library in twins.both:
            with library.catalog.snapshot() as snapshot:
                telling = snapshot.telling_matches(space_id, modality, query, where=where)
                scored = {one.row: (one.score, one.share) for one in telling}
                names = names_at_rows(snapshot, space_id, modality, list(scored), where)
                told.append({name: scored[row] for row, of in names.items() for name in of})
                ranked = dict(
                    snapshot.text_matches(space_id, modality, query, limit=1000, where=where)
                )
                names = names_at_rows(snapshot, space_id, modality, list(ranked), where)
                best.append({name: ranked[row] for row, of in names.items() for name in of})
        assert told[1].keys() == told[0].keys(), query
        assert best[1].keys() == best[0].keys(), query
        for name, scores in told[0].items():
            assert told[1][name] == pytest.approx(scores, abs=1e-6), (query, name)
        for name, score in best[0].items():
            assert best[1][name] == pytest.approx(score, abs=1e-6), (query, name)
        found_any = found_any or bool(told[0])
    assert found_any or where is not None


def test_the_best_come_first_and_no_more_than_wanted_but_for_ties(twins):
    space_id = twins.library.space().id
    with twins.table.catalog.snapshot() as snapshot:
        ranked = snapshot.text_matches(space_id, Modality.TEXT, "paragraph 7 boats", limit=3)
        scores = [score for _, score in ranked]
        assert scores == sorted(scores, reverse=True)
        assert len(ranked) >= 3
        assert snapshot.text_matches(space_id, Modality.TEXT, "paragraph", limit=0) == []


def test_what_was_removed_is_not_found_after_compaction(tmp_path, space, make_file):
    table = LanceTable.create(f"lance:{tmp_path}/table", space, {"/photos": None})
    names = [f"{animal} {number}" for animal in ("dog", "cat", "cow") for number in range(4)]
    files = [make_file(f"/photos/{name}.jpg", seed=seed) for seed, name in enumerate(names)]
    table.append(rows_of(files, space))
    table.create_indices()
    library = as_table(open_library(table.location))
    library.remove(["/photos/dog 1.jpg", "/photos/cow 1.jpg"])  # enough to be worth a compaction
    library.compact()
    with library.catalog.snapshot() as snapshot:
        telling = snapshot.telling_matches(space.id, Modality.IMAGE, "dog")
        rows = [one.row for one in telling]
        found = names_at_rows(snapshot, space.id, Modality.IMAGE, rows, None)
        ranked = snapshot.text_matches(space.id, Modality.IMAGE, "dog", limit=10)
    paths = sorted(path for of in found.values() for path, _, _ in of)
    assert paths == [f"/photos/dog {number}.jpg" for number in (0, 2, 3)]
    assert sorted(row for row, _ in ranked) == sorted(rows)
