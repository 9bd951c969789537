"""How hits are chosen: by words, like items, relevant enough, one a file, unlike each other."""

import numpy as np
import pytest

from indexer.pipeline import remove_paths
from retrieval.errors import NotFoundError, UsageError
from retrieval.filters import Filter
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.search.engine import Engine
from retrieval.search.query import ItemPart, Mode, Query, Reranking, TextPart

pytestmark = pytest.mark.slow

NONE = Reranking("none")


@pytest.fixture
def engine(indexed_library):
    return Engine(indexed_library, device="cpu")


@pytest.fixture
def asked(tiny_encoder):
    return tiny_encoder.encode(Modality.TEXT, ["a dog"])[0]


def near(vector, similarity, seed=0):
    """A unit vector with a cosine to a unit vector."""
    other = np.random.default_rng(seed).normal(size=len(vector))
    other -= (other @ vector) * vector
    other /= np.linalg.norm(other)
    return similarity * vector + np.sqrt(1 - similarity**2) * other


def made(tmp_path, tiny_encoder, write_files, files):
    library = create_library(tmp_path / "made", tiny_encoder.space)
    write_files(library, files)
    return Engine(library, device="cpu")


def ask(engine, **options):
    return engine.search(Query((TextPart("a dog"),), **options), NONE)


def names(answer):
    return [hit.path.rpartition("/")[2] for hit in answer]


def test_words_of_a_name_join_what_is_found_by_meaning(engine):
    by_name = engine.search(Query((TextPart("picture-3.png"),)), NONE)
    assert by_name.mode is Mode.HYBRID
    assert names(by_name)[0] == "picture-3.png"
    assert by_name[0].words > 0
    assert len(by_name) == 6
    assert all(hit.words is None for hit in by_name[1:])
    assert ask(engine).mode is Mode.VECTOR


def test_text_mode_finds_by_words_alone(engine):
    answer = engine.search(Query((TextPart("picture-3.png nowhere"),), mode=Mode.TEXT), NONE)
    assert names(answer)[0] == "picture-3.png"
    assert answer.mode is Mode.TEXT
    [found] = engine.search(Query((TextPart("3"),), mode=Mode.TEXT), NONE)
    by_meaning = engine.search(Query((TextPart("3"),), mode=Mode.VECTOR), NONE)
    [same] = [hit for hit in by_meaning if hit.item.id == found.item.id]
    assert found.similarity == pytest.approx(same.similarity, abs=1e-6)
    assert found.relevance == 1 > same.relevance
    assert engine.search(Query((TextPart("zebra"),), mode=Mode.TEXT), NONE).hits == ()


def test_texts_to_be_far_from_are_not_looked_for_by_words(engine):
    parts = (TextPart("a dog"), TextPart("picture-3.png", -1.0))
    assert engine.search(Query(parts), NONE).mode is Mode.VECTOR
    for mode in (Mode.TEXT, Mode.HYBRID):
        with pytest.raises(UsageError, match="needs a text"):
            Query((TextPart("dog", -1.0), ItemPart(1)), mode=mode)


def test_reranked_hits_are_fused_with_those_of_words(engine, tiny_fusion):
    fusion = Reranking(f"fusion:{tiny_fusion}", depth=6)
    answer = engine.search(Query((TextPart("picture-3.png"),)), fusion)
    assert names(answer)[0] == "picture-3.png"
    reranked = engine.search(Query((TextPart("picture-3.png"),), mode=Mode.VECTOR), fusion)
    rest = [name for name in names(reranked) if name != "picture-3.png"]
    assert names(answer)[1:] == rest


def test_what_is_like_an_item_leaves_it_out(engine, indexed_library):
    answer = engine.search(Query((ItemPart(2),)), NONE)
    assert sorted(hit.item.id for hit in answer) == [1, 3, 4, 5, 6]
    with indexed_library.catalog.snapshot() as snapshot:
        path = snapshot.item(2).path
    by_image = indexed_library.search(image=path, rerank="none")
    assert [hit.item.id for hit in by_image[1:]] == [hit.item.id for hit in answer]
    assert 2 in {
        hit.item.id for hit in engine.search(Query((ItemPart(2), TextPart("a dog"))), NONE)
    }


def test_items_that_are_not_there_are_said_so(engine, indexed_library):
    with pytest.raises(NotFoundError, match="no item 77"):
        engine.search(Query((ItemPart(77),)), NONE)
    with indexed_library.catalog.snapshot() as snapshot:
        path = snapshot.item(2).path
    remove_paths(indexed_library, [path])
    with pytest.raises(NotFoundError, match="no item 2"):
        engine.search(Query((ItemPart(2),)), NONE)


def test_an_item_is_compared_by_what_is_kept_of_it(engine, tiny_fusion, picture_folder):
    fusion = Reranking(f"fusion:{tiny_fusion}", depth=6)
    first = engine.search(Query((ItemPart(2),)), fusion)
    assert first.reranked == 6
    for path in picture_folder.rglob("*.png"):
        path.unlink()
    second = engine.search(Query((ItemPart(2),)), fusion)
    assert [hit.match for hit in second] == pytest.approx([hit.match for hit in first], abs=1e-5)


def test_an_item_whose_picture_cannot_be_read_is_not_compared_place_by_place(
    engine, tiny_fusion, picture_folder
):
    for path in picture_folder.rglob("*.png"):
        path.unlink()
    answer = engine.search(Query((ItemPart(2),)), Reranking(f"fusion:{tiny_fusion}"))
    assert len(answer) == 5
    assert answer.reranker is None
    assert "file of the item to compare with" in answer.warnings[0]


def test_filters_hold_for_copies_that_share_a_row(indexed_library, tiny_encoder, picture_folder):
    from indexer.pipeline import index_sources

    original = picture_folder / "folder 0" / "picture-0.png"
    copy = picture_folder / "folder 1" / "copy.png"
    copy.write_bytes(original.read_bytes())
    index_sources(indexed_library, tiny_encoder, [picture_folder])
    engine = Engine(indexed_library, device="cpu")
    for folder, path in (("folder 0", original), ("folder 1", copy)):
        answer = ask(engine, where=Filter(path=f"{folder}/*"))
        assert str(path) in {hit.path for hit in answer}
        assert all(f"/{folder}/" in hit.path for hit in answer)
    assert {str(original), str(copy)} <= {hit.path for hit in ask(engine)}


def test_a_filter_that_nothing_passes_finds_nothing(engine):
    answer = ask(engine, where=Filter(path="nowhere/*"))
    assert (answer.hits, answer.next_cursor) == ((), None)
    assert len(ask(engine, where=Filter())) == 6


def test_a_filter_sees_changes(engine, indexed_library, picture_folder):
    where = Filter(path="folder 1/*")
    assert len(ask(engine, where=where)) == 3
    remove_paths(indexed_library, [picture_folder / "folder 1" / "picture-1.png"])
    assert names(ask(engine, where=where)).count("picture-1.png") == 0
    assert len(ask(engine, where=where)) == 2


def test_hits_below_the_least_relevance_are_left_out(engine):
    relevances = [hit.relevance for hit in ask(engine)]
    assert relevances == sorted(relevances, reverse=True)
    least = relevances[2]
    assert [hit.relevance for hit in ask(engine, min_relevance=least)] == relevances[:3]
    assert ask(engine, min_relevance=1.0).hits == ()


def test_the_cut_of_a_query_is_the_same_on_every_page(tmp_path, tiny_encoder, write_files, asked):
    near_ones = [near(asked, 0.9 - 0.001 * n, n) for n in range(30)]
    far_ones = [near(asked, 0.1 - 0.001 * n, n + 100) for n in range(300)]
    files = {f"/i/{n}.jpg": one[np.newaxis] for n, one in enumerate(near_ones + far_ones)}
    engine = made(tmp_path, tiny_encoder, write_files, files)
    whole = ask(engine, k=400, min_relevance="auto")
    assert 1 <= len(whole) < 330
    assert whole.left_out == 330 - len(whole)
    assert whole.expected == pytest.approx(sum(h.relevance for h in ask(engine, k=400)), rel=0.01)
    shown, cursor = [], None
    while True:
        page = ask(engine, k=7, min_relevance="auto", cursor=cursor)
        assert page.expected == pytest.approx(whole.expected, rel=1e-3)
        shown += [hit.item.id for hit in page]
        if not (cursor := page.next_cursor):
            break
    assert shown == [hit.item.id for hit in whole]


def test_words_that_all_files_have_leave_the_cut_as_it_is(engine):
    query = Query((TextPart("picture"),), min_relevance=1.0, mode=Mode.HYBRID)
    assert len(engine.search(query, NONE)) <= 10


def test_what_words_found_is_relevant(engine):
    answer = engine.search(Query((TextPart("picture-3.png"),), min_relevance=1.0), NONE)
    assert names(answer) == ["picture-3.png"]


def picture_library(tmp_path, tiny_encoder, write_files, paths, *, sources=("/home/anna/trip",)):
    """Pictures at the paths, each of its own similarity to "a dog", the first the least."""
    [asked] = tiny_encoder.encode(Modality.TEXT, ["a dog"])
    library = create_library(tmp_path / "made", tiny_encoder.space)
    with library.catalog.transaction() as transaction:
        transaction.add_sources(dict.fromkeys(sources))
    similarities = np.linspace(-0.5, 0.5, len(paths))
    vectors = [near(asked, s, n)[np.newaxis] for n, s in enumerate(similarities)]
    write_files(library, dict(zip(paths, vectors, strict=True)))
    return Engine(library, device="cpu")


def numbered(folder, count=40, name="p-{:03}.jpg"):
    return [f"{folder}/{name.format(number)}" for number in range(count)]


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.HYBRID, Mode.TEXT])
@pytest.mark.parametrize(
    "text", ["home", "anna", "trip", "jpg", "*.JPG", "p", "all", "home anna trip jpg", "p jpg"]
)
def test_what_every_file_has_finds_none_of_them(tmp_path, tiny_encoder, write_files, mode, text):
    paths = numbered("/home/anna/trip/all")
    engine = picture_library(tmp_path, tiny_encoder, write_files, paths)
    answer = engine.search(Query((TextPart(text),), mode=mode, min_relevance=1.0), NONE)
    assert answer.hits == ()
    if mode is not Mode.TEXT:
        every = engine.search(Query((TextPart(text),), mode=mode, k=50), NONE)
        alone = engine.search(Query((TextPart(text),), mode=Mode.VECTOR, k=50), NONE)
        assert names(every) == names(alone)
        assert [hit.relevance for hit in every] == [hit.relevance for hit in alone]


def test_names_of_several_sources_tell_them_apart(tmp_path, tiny_encoder, write_files):
    paths = [*numbered("/disk/rome", 5), *numbered("/disk/work")]
    sources = ("/disk/rome", "/disk/work")
    engine = picture_library(tmp_path, tiny_encoder, write_files, paths, sources=sources)
    answer = engine.search(Query((TextPart("rome"),), min_relevance=1.0, k=50), NONE)
    assert sorted(hit.path for hit in answer) == paths[:5]


@pytest.mark.parametrize("text", ["dog", "dogs", "a dog"])
@pytest.mark.parametrize("others", [0, 90])
def test_words_of_a_whole_folder_leave_the_order_by_meaning(
    tmp_path, tiny_encoder, write_files, text, others
):
    paths = [*numbered("/home/anna/trip/dog", 30), *numbered("/home/anna/trip/cat", others)]
    engine = picture_library(tmp_path, tiny_encoder, write_files, paths)
    alone = engine.search(Query((TextPart(text),), mode=Mode.VECTOR, k=200), NONE)
    expected = [hit.path for hit in alone if "/dog/" in hit.path]
    for mode in (Mode.AUTO, Mode.HYBRID, Mode.TEXT):
        for k in (10, 200):
            answer = engine.search(Query((TextPart(text),), mode=mode, k=k), NONE)
            of_folder = [hit.path for hit in answer if "/dog/" in hit.path]
            assert of_folder == expected[: len(of_folder)]
            assert len(of_folder) >= min(k, 30)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("starbucks-receipt", "receipt from starbucks"),
        ("starbucks-receipt", "my starbucks receipts"),
        ("starbucks-receipt", "starbuck"),
        ("Quillfeather Hall at dusk", "photos of Quillfeather Hall"),
        ("Quillfeather Hall at dusk", "the Quillfeather halls"),
        ("小明的生日会", "小明的生日"),
        ("小明 2019", "小明的生日"),
        ("Müllers Gärten", "ein Foto von Muellers Garten im Sommer"),
        ("O'Neil", "oneil on the beach"),
        ("IMG_20190704_1201", "2019-07-04"),
    ],
)
def test_a_rare_name_in_a_sentence_is_found(tmp_path, tiny_encoder, write_files, name, text):
    paths = [f"/home/anna/trip/{name}.jpg", *numbered("/home/anna/trip")]
    engine = picture_library(tmp_path, tiny_encoder, write_files, paths)
    answer = engine.search(Query((TextPart(text),), k=50), NONE)
    assert answer.mode is Mode.HYBRID
    assert names(answer).index(f"{name}.jpg") < 5
    assert [hit.words is not None for hit in answer].count(True) == 1


@pytest.mark.parametrize("rerank", [False, True])
def test_relevance_never_rises_down_a_list(
    tmp_path, tiny_encoder, write_files, picture_folder, tiny_fusion, indexed_library, rerank
):
    folder = "/home/anna/trip"
    paths = [f"{folder}/bike {n}{' red' * (n % 2)}{' shed' * (n % 5 == 0)}.jpg" for n in range(9)]
    made = picture_library(tmp_path / "b", tiny_encoder, write_files, [*paths, *numbered(folder)])
    engine = Engine(indexed_library, device="cpu") if rerank else made
    reranking = Reranking(f"fusion:{tiny_fusion}", depth=4) if rerank else NONE
    for text in ("bike", "red bike shed", "bike 3", "picture-3", "folder picture-5"):
        answer = engine.search(Query((TextPart(text),), mode=Mode.HYBRID, k=60), reranking)
        relevances = [hit.relevance for hit in answer]
        assert relevances == sorted(relevances, reverse=True)
        assert len(answer) == (6 if rerank else 49)


def test_words_do_not_answer_for_what_else_is_asked(tmp_path, tiny_encoder, write_files):
    paths = ["/home/anna/trip/quillfeather.jpg", *numbered("/home/anna/trip")]
    engine = picture_library(tmp_path, tiny_encoder, write_files, paths)
    word = TextPart("quillfeather")
    for parts in ((word, TextPart("people", -1.0)), (word, ItemPart(3))):
        answer = engine.search(Query(parts), NONE)
        assert names(answer)[0] == "quillfeather.jpg"
        assert engine.search(Query(parts, min_relevance=1.0), NONE).hits == ()
    [found] = engine.search(Query((word,), min_relevance=1.0), NONE)
    assert found.relevance == 1


def test_one_hit_a_file(tmp_path, tiny_encoder, write_files, asked):
    frames = [near(asked, 0.9 - 0.01 * n, n) for n in range(40)]
    files = {
        "/v/long.mp4": np.stack(frames),
        "/v/short.mp4": np.stack([near(asked, 0.3), near(asked, 0.95)]),
        "/i/a.jpg": near(asked, 0.2)[np.newaxis],
    }
    engine = made(tmp_path, tiny_encoder, write_files, files)
    assert set(names(ask(engine, k=5))) == {"short.mp4", "long.mp4"}
    answer = ask(engine, k=5, group_by_file=True)
    assert names(answer) == ["short.mp4", "long.mp4", "a.jpg"]
    short, long, single = answer
    assert short.item.part == "frame-1"
    assert len(short.group) == 1
    assert len(long.group) == 39
    assert long.item.id not in long.group
    assert single.group == ()


def test_many_frames_of_one_file_do_not_hide_the_others(tmp_path, tiny_encoder, write_files, asked):
    files = {"/v/long.mp4": np.stack([near(asked, 0.9, n) for n in range(500)])}
    files |= {f"/i/{n}.jpg": near(asked, 0.1, n)[np.newaxis] for n in range(5)}
    engine = made(tmp_path, tiny_encoder, write_files, files)
    assert len(ask(engine, k=3, group_by_file=True)) == 3


def test_diverse_hits_differ_from_those_before(tmp_path, tiny_encoder, write_files, asked):
    same, other = near(asked, 0.9, 1), near(asked, 0.7, 2)
    files = {f"/i/same {n}.jpg": same[np.newaxis] for n in range(3)}
    files |= {"/i/other.jpg": other[np.newaxis], "/i/far.jpg": near(asked, -0.5, 3)[np.newaxis]}
    engine = made(tmp_path, tiny_encoder, write_files, files)
    assert names(ask(engine, k=4))[3] == "other.jpg"
    diverse = ask(engine, k=4, diversity=0.35)
    assert names(diverse)[:2] == ["same 0.jpg", "other.jpg"]
    assert diverse[0].rank == 1


def test_a_library_of_one_item_behaves(tmp_path, tiny_encoder, write_files, asked):
    engine = made(tmp_path, tiny_encoder, write_files, {"/i/a.jpg": near(asked, 0.5)[np.newaxis]})
    [hit] = ask(engine, group_by_file=True, diversity=0.5)
    assert 0 <= hit.relevance <= 1
    assert engine.search(Query((ItemPart(hit.item.id),)), NONE).hits == ()
