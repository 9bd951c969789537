"""Queries and their judgements: by hand, and against plain counting."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.graded_queries import Sizes, make_queries, signed_pairs, thinned
from benchmarks.quality.query_words import Kind, QueryWords, WordLists
from retrieval.errors import UsageError
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.relevance import is_held_out

LISTS = WordLists(
    ignored=("the", "on", "and"),
    scenes=("beach",),
    activities=("run",),
    adjectives=("brown",),
    implies={"puppy": "dog"},
)
WORDS = QueryWords("en", LISTS)
PHOTOS = [
    ["the brown dog", "the brown dog on the beach", "the dog and the beach"],
    ["the brown puppy", "the dog", "the ball"],
    ["the dog on the brown beach", "the ball", "the cat"],
    ["the cat", "the cat on the beach", "dogs run"],
    ["the dog"],
]


def photos_of(captions):
    return [CaptionedPhoto(Path(f"{n}.jpg"), tuple(each)) for n, each in enumerate(captions)]


def made(captions, absent=(), **sizes):
    chosen = Sizes(**{"least": 1, "captions": 0} | sizes)
    return make_queries(photos_of(captions), WORDS, absent, Path("unused"), sizes=chosen)


@pytest.fixture(scope="module")
def by_text():
    return {query.text: query for query in made(PHOTOS).queries}


@pytest.mark.parametrize(
    ("text", "kind", "gains"),
    [
        # A photo with one caption cannot agree, whatever it says.
        ("dog", Kind.NOUN, [3, 2, -1, -1, -1]),
        ("cat", Kind.NOUN, [0, 0, -1, 2, -1]),
        ("beach", Kind.SCENE, [2, 0, -1, -1, -1]),
        ("brown", Kind.ADJECTIVE, [2, -1, -1, 0, -1]),
        # Implied by "brown puppy"; unsure where one caption has both words apart.
        ("brown dog", Kind.PHRASE, [2, -1, -1, 0, -1]),
        # A noun and a scene need not follow each other.
        ("dog beach", Kind.PHRASE, [2, 0, -1, 0, -1]),
    ],
)
def test_judgements_by_hand(by_text, text, kind, gains):
    assert by_text[text].kind is kind
    assert by_text[text].gains.tolist() == gains
    assert by_text[text].right == sum(gain > 0 for gain in gains)
    assert by_text[text].unsure == gains.count(-1)


def test_words_that_no_two_captions_of_a_photo_say_are_no_queries(by_text):
    assert not {"ball", "puppy", "run", "the", "on"} & by_text.keys()


captions = st.lists(st.sampled_from(["dog", "cat", "ball", "the", "hat"]), max_size=4).map(" ".join)


@given(
    texts=st.lists(st.lists(captions, min_size=2, max_size=5), min_size=1, max_size=6),
    least=st.integers(1, 3),
)
def test_judgements_are_what_counting_gives(texts, least):
    found = {query.text: query.gains.tolist() for query in made(texts, least=least).queries}
    counted = {}
    for word in ("dog", "cat", "ball", "hat"):
        counts = [sum(word in text.split() for text in photo) for photo in texts]
        if sum(count >= 2 for count in counts) >= least:
            counted[word] = [count if count != 1 else -1 for count in counts]
    assert {text: gains for text, gains in found.items() if " " not in text} == counted


def test_single_captions_cannot_judge():
    with pytest.raises(UsageError, match="at least two"):
        made([["the dog"], ["the cat"]])


@pytest.mark.parametrize("sizes", [{"least": 0}, {"most": 0}, {"captions": -1}, {"pairs": -1}])
def test_sizes_below_their_least_are_refused(sizes):
    with pytest.raises(UsageError):
        Sizes(**sizes)


def test_absent_queries_that_a_caption_says_are_dropped():
    asked = made(PHOTOS, ["a zebra", "the dog on the beach"])
    assert asked.dropped == ("the dog on the beach",)
    [absent] = [query for query in asked.queries if query.kind is Kind.ABSENT]
    assert absent.text == "a zebra"
    assert not absent.gains.any()


def test_too_many_queries_are_thinned_out_evenly(by_text):
    words = sorted(by_text.values(), key=lambda query: (-query.right, query.text))
    assert thinned(words, 99) == words
    kept = thinned(words, 3)
    assert kept[0] is words[0]
    assert kept[-1] is words[-1]
    assert len({query.text for query in kept}) == 3


def test_pairs_are_frequent_together_and_neither_implies_the_other():
    both = [["the dog and the cat"] * 2] * 3
    texts = [*both, *[["the dog"] * 2] * 2, ["the puppy and the cat"] * 2, ["the hat"] * 2]
    queries = [query for query in made(texts).queries if query.kind is Kind.NOUN]
    pairs = {(p.plus.text, p.minus.text): p for p in signed_pairs(queries, WORDS, 1, 9)}
    # No photo has a cat without a dog, since a puppy is one; a dog without a puppy is no pair.
    assert pairs.keys() == {("dog", "cat"), ("cat", "puppy")}
    pair = pairs["dog", "cat"]
    assert pair.both == 4
    assert pair.gains.tolist() == [0, 0, 0, 2, 2, 0, 0]
    assert signed_pairs(queries, WORDS, 5, 9) == []


def test_a_pairs_judgement_is_unsure_where_one_word_is():
    texts = [["the dog", "the dog", "the cat"], ["the dog", "the hat"], *[["dog cat"] * 2] * 2]
    queries = [query for query in made([*texts, ["the dog"] * 2]).queries if query.stem]
    [pair] = signed_pairs(queries, WORDS, 1, 9)
    assert (pair.plus.text, pair.minus.text) == ("dog", "cat")
    assert pair.gains.tolist() == [-1, -1, 0, 0, 2]


def test_a_full_caption_is_surely_right_for_its_own_photo_only(tmp_path):
    """In other languages than English, photos with half of its words are unsure."""
    texts = [
        ["hund am strand", "ein hund"],
        ["der hund schläft", "ein sofa"],
        ["ein auto", "ein haus"],
    ]
    asked = make_queries(
        photos_of(texts),
        QueryWords("de"),
        [],
        tmp_path,
        sizes=Sizes(least=1, captions=3),
        seed=1,
    )
    own = [query for query in asked.queries if query.kind is Kind.CAPTION]
    assert [query.gains[n] for n, query in enumerate(own)] == [1, 1, 1]
    assert [query.text in photo for query, photo in zip(own, texts, strict=True)] == [True] * 3
    assert own[2].gains.tolist() == [0, 0, 1]
    assert own[0].gains.tolist() == [1, -1, 0]
    assert not list(tmp_path.iterdir())  # no MiniLM


@pytest.mark.slow
def test_similar_english_captions_are_unsure(tmp_path):
    texts = [
        ["A dog runs on the beach .", "A brown dog at the sea ."],
        ["A dog is running along the shore .", "A dog near the ocean ."],
        ["A man repairs a car .", "A mechanic at work ."],
    ]
    asked = make_queries(
        photos_of(texts), QueryWords("en"), [], tmp_path, sizes=Sizes(least=9, captions=3)
    )
    judged = np.stack([query.gains for query in asked.queries])
    assert judged.tolist() == [[1, -1, 0], [-1, 1, 0], [0, 0, 1]]


def test_held_out_queries_are_those_that_are_not_learned_from():
    asked = made(PHOTOS, ["a zebra", "a whale", "a shark", "an owl"])
    kept = asked.held_out()
    assert kept.photos == asked.photos
    assert 0 < len(kept.queries) < len(asked.queries)
    assert {query.text for query in kept.queries} == {
        query.text
        for query in asked.queries
        if query.kind is Kind.ABSENT or is_held_out(query.text)
    }
    assert {pair.plus.text for pair in kept.pairs} == {
        pair.plus.text for pair in asked.pairs if is_held_out(pair.plus.text)
    }
