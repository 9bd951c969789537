"""What can be asked, and what cannot."""

import pytest
from PIL import Image

from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.search.query import (
    MAX_ITEM_ID,
    MAX_K,
    MAX_PARTS,
    MAX_RERANK_BUDGET_MS,
    MAX_RERANK_DEPTH,
    MAX_TEXT_LENGTH,
    MAX_WEIGHT,
    ImagePart,
    ItemPart,
    JointQuery,
    Mode,
    Query,
    Reranking,
    Sort,
    TextPart,
    parse_modalities,
    parse_modality,
    parse_mode,
    parse_sort,
    read_parts,
)


@pytest.mark.parametrize(
    ("parts", "k", "message"),
    [
        ((), 1, "query is empty"),
        ((TextPart(""),), 1, "text is empty"),
        ((TextPart(" \n\t"),), 1, "text is empty"),
        ((TextPart("a"),), 0, "between 1 and 10,000, not 0"),
        ((TextPart("a"),), -3, "between 1 and 10,000"),
        ((TextPart("a"),), MAX_K + 1, "between 1 and 10,000"),
        ((TextPart("a", 0.0),), 1, "weight"),
        ((TextPart("a", float("nan")),), 1, "weight"),
        ((TextPart("a", float("inf")),), 1, "weight"),
        ((TextPart("a", MAX_WEIGHT + 1),), 1, "from -100 to 100"),
        ((TextPart("a" * (MAX_TEXT_LENGTH + 1)),), 1, "10,001 characters; 10,000 are the most"),
        ((TextPart("a"),) * (MAX_PARTS + 1), 1, "at most 16 parts, not 17"),
    ],
)
def test_queries_that_cannot_be_meant(parts, k, message):
    with pytest.raises(UsageError, match=message):
        Query(parts, k=k)


def test_query_images_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no")
    with pytest.raises(UsageError, match=r"bad.jpg: not an image of a known format"):
        read_parts(image=tmp_path / "bad.jpg")
    with pytest.raises(UsageError, match="No such file"):
        read_parts(image=tmp_path / "nowhere.jpg")
    with pytest.raises(UsageError, match="Is a directory"):
        read_parts(image=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 0},
        {"depth": MAX_RERANK_DEPTH + 1},
        {"budget_ms": -1},
        {"budget_ms": MAX_RERANK_BUDGET_MS + 1},
        {"budget_ms": float("nan")},
    ],
)
def test_impossible_reranking_is_refused(wrong):
    with pytest.raises(UsageError):
        Reranking(**wrong)


def test_the_parts_of_the_common_question():
    image = Image.new("RGB", (3, 2))
    parts = read_parts("a dog", image, minus=["snow", "a cat"], like=[7])
    assert parts == (
        TextPart("a dog"),
        TextPart("snow", -1.0),
        TextPart("a cat", -1.0),
        ItemPart(7),
        ImagePart(image),
    )
    query = Query(parts)
    assert query.words == "a dog"
    assert read_parts() == ()


@pytest.mark.parametrize("mode", [Mode.TEXT, Mode.HYBRID])
@pytest.mark.parametrize("parts", [(ItemPart(1),), (TextPart("snow", -1.0), ItemPart(1))])
def test_a_search_for_words_needs_some(mode, parts):
    with pytest.raises(UsageError, match="needs a text"):
        Query(parts, mode=mode)
    assert Query((*parts, TextPart("a dog")), mode=mode).words == "a dog"


@pytest.mark.parametrize("name", ["min_relevance", "diversity"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_shares_are_between_none_and_all(name, value):
    with pytest.raises(UsageError, match=f"{name} must be between 0 and 1"):
        Query((TextPart("a"),), **{name: value})


@pytest.mark.parametrize("item_id", [0, -1, MAX_ITEM_ID + 1])
def test_ids_that_no_item_can_have_are_refused(item_id):
    with pytest.raises(UsageError, match="not the id of an item"):
        Query((ItemPart(item_id),))


def test_images_are_told_apart_by_pixels_and_shape():
    wide, tall = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert ImagePart(wide).digest == ImagePart(wide.copy(), -1.0).digest
    assert len({ImagePart(image).digest for image in (wide, tall, wide.convert("RGBA"))}) == 3


def test_names_of_modes_and_modalities():
    assert parse_mode("hybrid") is Mode.HYBRID
    with pytest.raises(UsageError, match="auto, vector, text, hybrid, not 'HYBRID'"):
        parse_mode("HYBRID")
    assert parse_modality("text") == "text"
    with pytest.raises(UsageError, match="image or text or audio, not 'any'"):
        parse_modality("any")
    assert parse_modalities("text") == (Modality.TEXT,)
    assert parse_modalities("any") == tuple(Modality)
    with pytest.raises(UsageError, match="image, text, audio or any, not 'smell'"):
        parse_modalities("smell")


@pytest.mark.parametrize(
    ("spaces", "message"), [(("a", "b", "a"), "named twice"), (tuple("abcdefghi"), "at most 8")]
)
def test_spaces_that_cannot_be_joined(spaces, message):
    query = Query((TextPart("a dog"),))
    assert JointQuery(query, space_ids=("a", "b")).modalities == tuple(Modality)
    with pytest.raises(UsageError, match=message):
        JointQuery(query, space_ids=spaces)


def test_hits_by_date_are_cut_unless_told_otherwise():
    dog = (TextPart("dog"),)
    assert Query(dog).least == 0
    assert Query(dog, sort=Sort.DATE).least == "auto"
    assert Query(dog, sort=Sort.DATE_ASC, min_relevance=0.0).least == 0
    with pytest.raises(UsageError, match="cannot be diversified"):
        Query(dog, sort=Sort.DATE, diversity=0.5)


def test_orders_have_names():
    assert parse_sort("date-asc") is Sort.DATE_ASC
    with pytest.raises(UsageError, match="sorted by relevance, date, date-asc, name, not 'size'"):
        parse_sort("size")


@pytest.mark.parametrize(
    ("parts", "share"),
    [
        ((TextPart("a dog"),), 1),
        ((TextPart("a dog"), TextPart("at night", 3.0)), 1),
        ((TextPart("beach"), TextPart("people", -1.0)), 0.5),
        ((TextPart("beach", 3.0), ItemPart(7)), 0.75),
        ((ItemPart(7), TextPart("people", -1.0)), 0),
    ],
)
def test_words_answer_for_their_share_of_a_query(parts, share):
    assert Query(parts).weight_of_words == share
