"""Answers for several modalities and from several spaces, joined: what is found, page by page."""

import ctypes
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.errors import MMSearchError, UsageError
from retrieval.filters import Filter
from retrieval.library import create_library
from retrieval.media import MediaKind, Modality
from retrieval.search import relevance
from retrieval.search.engine import Engine
from retrieval.search.joint import MIN_PASSAGE_RELEVANCE, JointEngine
from retrieval.search.query import (
    MAX_K,
    ItemPart,
    JointQuery,
    Mode,
    Query,
    Reranking,
    Sort,
    TextPart,
)
from retrieval.search.rank_fusion import reciprocal_rank_fusion

pytestmark = pytest.mark.slow

NONE = Reranking("none")
BOTH = (Modality.IMAGE, Modality.TEXT)
WORDS = ("heron", "otter", "newt")


def write_pdf(path, *texts):
    document = pypdfium2.PdfDocument.new()
    for text in texts:
        page = document.new_page(200, 300)
        words = pdfium.FPDFPageObj_NewTextObj(document, b"Helvetica", 20)
        letters = (text + "\0").encode("utf-16-le")
        pdfium.FPDFText_SetText(
            words, ctypes.cast(ctypes.c_char_p(letters), pdfium.FPDF_WIDESTRING)
        )
        pdfium.FPDFPageObj_Transform(words, 1, 0, 0, 1, 20, 200)
        pdfium.FPDFPage_InsertObject(page, words)
        page.gen_content()
        page.close()
    document.save(os.fspath(path))
    document.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder, other_encoder):
    """Pictures, notes and a document of six pages, in two spaces."""
    folder = tmp_path_factory.mktemp("files")
    generator = np.random.default_rng(0)
    for number in range(18):
        noise = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"picture-{number}.png")
    for number in range(9):
        text = f"The {WORDS[number % 3]} was seen on day {number}."
        (folder / f"note-{number}.txt").write_text(text)
    (folder / "marsh").mkdir()
    (folder / "marsh" / "heron.txt").write_text("A heron among reeds.")
    write_pdf(folder / "book.pdf", *(f"A {WORDS[n % 3]} on leaf {n}" for n in range(6)))
    for number, file in enumerate(sorted(folder.rglob("*.*"), key=lambda file: file.name[::-1])):
        os.utime(file, (1_700_000_000 + 100_000 * number,) * 2)
    library = create_library(tmp_path_factory.mktemp("joint") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder], workers=1)
    library.add_space(other_encoder.space)
    index_sources(library, other_encoder, workers=1)
    return library


@pytest.fixture(scope="module")
def engine(library):
    return JointEngine(library, device="cpu")


@pytest.fixture(scope="module")
def two_spaces(library, tiny_encoder, other_encoder):
    return (tiny_encoder.space.id, other_encoder.space.id)


def names(answer):
    return [f"{Path(hit.path).name}:{hit.item.page or ''}" for hit in answer]


def test_words_find_the_picture_of_their_page_and_the_notes_beside_it(engine):
    answer = engine.search(JointQuery(Query((TextPart("newt"),), k=MAX_K)), NONE)
    by_words = {name: hit for name, hit in zip(names(answer), answer, strict=True) if hit.words}
    pages = {name: hit for name, hit in by_words.items() if name.startswith("book")}
    assert set(pages) == {"book.pdf:3", "book.pdf:6"}
    for hit in pages.values():
        assert hit.item.modality is Modality.IMAGE
        assert hit.item.has_picture
        assert "newt" in hit.item.text
        assert hit.item.width
    notes = set(by_words) - set(pages)
    assert notes == {"note-2.txt:", "note-5.txt:", "note-8.txt:"}
    assert {by_words[name].item.modality for name in notes} == {Modality.TEXT}
    assert [hit.rank for hit in answer] == list(range(1, len(answer) + 1))
    assert len({hit.item.id for hit in answer}) == len(answer)
    assert {name for name in names(answer) if name.startswith("picture")} == {
        f"picture-{n}.png:" for n in range(18)
    }


def test_the_order_is_that_of_reciprocal_ranks(library, engine):
    """An oracle from the answers for each modality: a page and its passage are the same."""
    query = Query((TextPart("otter"),), k=MAX_K)
    joint = engine.search(JointQuery(query), NONE)
    alone = Engine(library, device="cpu")
    pictures = alone.search(query, NONE)
    passages = alone.search(
        Query(query.parts, k=MAX_K, modality=Modality.TEXT, min_relevance=MIN_PASSAGE_RELEVANCE),
        NONE,
    )
    fused = reciprocal_rank_fusion([names(pictures), list(dict.fromkeys(names(passages)))])
    scores = dict(fused)
    assert sorted(names(joint)) == sorted(scores)
    in_order = [scores[name] for name in names(joint)]
    assert in_order == sorted(in_order, reverse=True)
    ties = [(a, b) for a, b in pairwise(joint) if scores[names([a])[0]] == scores[names([b])[0]]]
    assert all((a.relevance or 0) >= (b.relevance or 0) for a, b in ties)
    assert joint.mode is Mode.HYBRID
    # What both rankings name stands before what only one names at the same rank.
    assert names(joint)[0].startswith("book.pdf")


def test_passages_need_the_words_or_a_relevance(library):
    engine = JointEngine(library, device="cpu")
    answer = engine.search(JointQuery(Query((TextPart("quartz"),), k=MAX_K)), NONE)
    for hit in answer:
        if hit.item.modality is Modality.TEXT:
            assert hit.relevance >= MIN_PASSAGE_RELEVANCE
    strict = Query((TextPart("quartz"),), k=MAX_K, min_relevance=0.9999)
    assert not len(engine.search(JointQuery(strict), NONE))


def test_one_modality_and_space_is_the_answer_of_the_engine(library, engine):
    alone = Engine(library, device="cpu")
    for modality in Modality:
        query = Query((TextPart("heron"),), k=4, modality=modality)
        one = alone.search(query, NONE)
        for asked in (query, JointQuery(query, (modality,))):
            other = engine.search(asked, NONE)
            assert other.hits == one.hits
            assert other.next_cursor == one.next_cursor


queries = st.builds(
    Query,
    parts=st.sampled_from(
        [
            (TextPart("heron"),),
            (TextPart("otter in the folder marsh"),),
            (TextPart("otter"), TextPart("newt", -0.5)),
            (ItemPart(3),),
            (ItemPart(2), TextPart("newt")),
        ]
    ),
    min_relevance=st.sampled_from([None, None, 0.3, "auto"]),
    group_by_file=st.booleans(),
    diversity=st.sampled_from([0.0, 0.4]),
    parse=st.booleans(),
    where=st.sampled_from([None, None, Filter(kind=[MediaKind.DOCUMENT]), Filter(path="*note*")]),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    query=queries,
    modalities=st.sampled_from([BOTH, BOTH, (Modality.IMAGE,), (Modality.TEXT,)]),
    is_fused=st.booleans(),
    sort=st.sampled_from([Sort.RELEVANCE, Sort.RELEVANCE, Sort.DATE, Sort.DATE_ASC]),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    first_block=st.sampled_from([3, 7, 200]),
)
def test_pages_are_one_large_answer(
    engine, two_spaces, query, modalities, is_fused, sort, sizes, first_block
):
    if sort is not Sort.RELEVANCE:
        query = replace(query, diversity=0.0, sort=sort)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.search.joint._FIRST_BLOCK", first_block)
        spaces = two_spaces if is_fused else ()

        def ask(**how):
            asked = Query(**{**vars(query), **how})
            return engine.search(JointQuery(asked, modalities, spaces), NONE)

        whole = ask(k=MAX_K)
        assert whole.next_cursor is None
        hits, cursor, number = [], None, 0
        while True:
            page = ask(k=sizes[number % len(sizes)], cursor=cursor)
            hits += page.hits
            number += 1
            if (cursor := page.next_cursor) is None:
                break
        assert [hit.item.id for hit in hits] == [hit.item.id for hit in whole]
        assert [hit.rank for hit in hits] == list(range(1, len(whole) + 1))
        keys = [hit.path if query.group_by_file else hit.item.id for hit in whole]
        assert len(set(keys)) == len(keys)
        if query.parts == (ItemPart(3),):
            assert 3 not in {hit.item.id for hit in whole}


def test_all_hits_by_words_are_given_page_by_page_above_a_cut(engine):
    """There are more of them than are looked at for a page, and fewer are near."""
    query = Query(
        (TextPart("heron"),),
        k=MAX_K,
        modality=Modality.TEXT,
        min_relevance=0.3,
        group_by_file=True,
    )
    whole = engine.search(query, NONE)
    found = [engine.search(replace(query, k=1), NONE)]
    while cursor := found[-1].next_cursor:
        found.append(engine.search(replace(query, k=1, cursor=cursor), NONE))
    assert [hit.item.id for page in found for hit in page] == [hit.item.id for hit in whole]
    assert len(whole) >= 5


@settings(max_examples=10, deadline=None)
@given(query=queries, first_block=st.sampled_from([3, 7]))
def test_blocks_lose_nothing(engine, two_spaces, query, first_block):
    """However large the blocks are, the same items are found."""
    asked = JointQuery(Query(**{**vars(query), "k": MAX_K}), BOTH, two_spaces)
    whole = engine.search(asked, NONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.search.joint._FIRST_BLOCK", first_block)
        other = engine.search(asked, NONE)
    if query.group_by_file:
        assert {hit.path for hit in whole} == {hit.path for hit in other}
    elif not query.diversity:
        assert {hit.item.id for hit in whole} == {hit.item.id for hit in other}


@pytest.mark.parametrize("sort", [Sort.DATE, Sort.DATE_ASC])
def test_rankings_by_date_are_merged_by_date(engine, two_spaces, sort):
    query = Query((TextPart("heron"),), k=MAX_K, min_relevance=0.0)
    by_date = replace(query, sort=sort)
    for spaces in ((), two_spaces):
        answer = engine.search(JointQuery(by_date, BOTH, spaces), NONE)
        dates = [hit.item.taken_local for hit in answer]
        assert len(set(dates)) > 20
        assert dates == sorted(dates, reverse=sort is Sort.DATE)
        ranked = engine.search(JointQuery(query, BOTH, spaces), NONE)
        assert {hit.item.id for hit in answer} == {hit.item.id for hit in ranked}


def test_rankings_by_name_are_merged_by_path(engine, two_spaces):
    query = Query((TextPart("heron"),), k=MAX_K, min_relevance=0.0)
    for spaces in ((), two_spaces):
        answer = engine.search(JointQuery(replace(query, sort=Sort.NAME), BOTH, spaces), NONE)
        places = [(os.fsencode(hit.path), hit.item.id) for hit in answer]
        assert len(set(places)) > 20
        assert places == sorted(places)
        ranked = engine.search(JointQuery(query, BOTH, spaces), NONE)
        assert {hit.item.id for hit in answer} == {hit.item.id for hit in ranked}


def test_words_are_understood_alike_in_all_rankings(library, engine, two_spaces):
    """No picture is in the folder, which is a filter all the same."""
    query = Query((TextPart("heron in the folder marsh"),), k=MAX_K, parse=True)
    assert "Nothing in the library" in engine.search(query, NONE).warnings[0]
    for spaces in ((), two_spaces):
        answer = engine.search(JointQuery(query, BOTH, spaces), NONE)
        assert [part.words for part in answer.understood] == ["in the folder marsh"]
        assert not answer.warnings
        assert names(answer) == ["heron.txt:"]
        literal = replace(query, literal=("in the folder marsh",))
        assert len(engine.search(JointQuery(literal, BOTH, spaces), NONE)) > 20


def test_the_cut_is_that_of_each_ranking(engine):
    query = Query((TextPart("newt"),), k=MAX_K, min_relevance="auto")
    answer = engine.search(JointQuery(query), NONE)
    of = {modality: engine.search(replace(query, modality=modality), NONE) for modality in Modality}
    found = {hit.item.id for one in of.values() for hit in one}
    for hit in answer:
        assert hit.item.id in found or hit.item.has_picture  # a page that its passage found
        assert hit.item.modality is Modality.IMAGE or hit.relevance >= MIN_PASSAGE_RELEVANCE
    assert answer.expected == pytest.approx(sum(one.expected for one in of.values()), rel=1e-3)
    assert answer.left_out == sum(one.left_out for one in of.values()) > 0
    everything = engine.search(JointQuery(replace(query, min_relevance=None)), NONE)
    assert len(answer) < len(everything)
    assert everything.left_out == 0


def test_two_spaces_are_joined_by_rank(library, engine, two_spaces):
    query = Query((TextPart("heron"),), k=MAX_K, mode=Mode.VECTOR)
    fused = engine.search(JointQuery(query, (Modality.IMAGE,), two_spaces), NONE)
    rankings = [
        [hit.item.id for hit in Engine(library, space_id=one, device="cpu").search(query, NONE)]
        for one in two_spaces
    ]
    assert rankings[0] != rankings[1]
    scores = dict(reciprocal_rank_fusion(rankings))
    found = [scores[hit.item.id] for hit in fused]
    assert len(found) == len(scores) == 24
    assert found == sorted(found, reverse=True)


def test_relevance_is_that_of_the_space_with_a_calibration(library, two_spaces, other_encoder):
    generic = relevance.CalibrationFile.read(Path(relevance._GENERIC))
    own = library.space_directory(other_encoder.space) / relevance.OWN_FILE
    replace(generic, space_id=other_encoder.space.id).write(own)
    try:
        engine = JointEngine(library, device="cpu")
        query = Query((TextPart("heron"),), k=MAX_K, mode=Mode.VECTOR)
        fused = engine.search(JointQuery(query, (Modality.IMAGE,), two_spaces), NONE)
        alone = engine.search(JointQuery(query, (Modality.IMAGE,), two_spaces[1:]), NONE)
    finally:
        own.unlink()
    expected = {hit.item.id: (hit.similarity, hit.relevance) for hit in alone}
    for hit in fused:
        assert (hit.similarity, hit.relevance) == pytest.approx(expected[hit.item.id], abs=1e-5)


def test_queries_are_answered_together_and_what_is_wrong_stays_with_one(engine, two_spaces):
    query = Query((TextPart("heron"),), k=5)
    requests = [
        JointQuery(query),
        query,
        JointQuery(query, BOTH, ("nonsense",)),
        JointQuery(Query((ItemPart(9999),))),
        JointQuery(Query(query.parts, cursor="made up")),
        JointQuery(query, BOTH, two_spaces),
        JointQuery(Query(query.parts, k=5, cursor="7.made-up")),
    ]
    together = engine.search_many([(asked, NONE) for asked in requests])
    assert [type(answer).__name__ for answer in together] == [
        *("Answer", "Answer", "UsageError", "NotFoundError", "UsageError", "Answer", "UsageError")
    ]
    assert "nonsense" in str(together[2])
    for asked, answer in zip(requests, together, strict=True):
        if isinstance(answer, MMSearchError):
            with pytest.raises(type(answer)):
                engine.search(asked, NONE)
        else:
            assert names(engine.search(asked, NONE)) == names(answer)


def test_a_cursor_belongs_to_its_query(engine, two_spaces):
    query = Query((TextPart("heron"),), k=5)
    cursor = engine.search(JointQuery(query), NONE).next_cursor
    for asked in (
        JointQuery(Query((TextPart("otter"),), cursor=cursor)),
        JointQuery(Query(query.parts, cursor=cursor), BOTH, two_spaces),
        JointQuery(Query(query.parts, cursor=cursor), (Modality.IMAGE,)),
        JointQuery(Query(query.parts, cursor=cursor[:-2])),
        JointQuery(Query(query.parts, cursor=cursor + ".0")),
    ):
        with pytest.raises(UsageError, match=r"[Cc]ursor"):
            engine.search(asked, NONE)


def test_only_named_spaces_are_searched(library, two_spaces):
    first, second = two_spaces
    engine = JointEngine(library, [second], device="cpu")
    query = Query((TextPart("heron"),))
    assert engine.main.space.id == second
    with pytest.raises(UsageError, match="not searched here"):
        engine.search(JointQuery(query, BOTH, (first,)), NONE)
    with pytest.raises(UsageError, match="named twice"):
        JointQuery(query, BOTH, (first, first))


def test_a_library_without_texts_answers_as_it_does_for_pictures(indexed_library):
    engine = JointEngine(indexed_library, device="cpu")
    query = Query((TextPart("a dog"),), k=2)
    page = engine.search(JointQuery(query), NONE)
    assert page.hits == engine.search(query, NONE).hits
    rest = engine.search(JointQuery(Query(query.parts, k=9, cursor=page.next_cursor)), NONE)
    assert [hit.rank for hit in rest] == [3, 4, 5, 6]
    assert rest.next_cursor is None


def test_a_library_of_texts_alone_shows_the_nearest(tmp_path, tiny_encoder):
    (tmp_path / "notes").mkdir()
    for number in range(3):
        (tmp_path / "notes" / f"{number}.txt").write_text(f"Some words, number {number}.")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "notes"], workers=1)
    engine = JointEngine(library, device="cpu")
    assert len(engine.search(JointQuery(Query((TextPart("quartz"),))), NONE)) == 3
