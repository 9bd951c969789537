import pytest

from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.search.query import ItemPart, JointQuery, Query, TextPart
from retrieval.search.through_text import ask_by_texts

ASKED = JointQuery(Query((ItemPart(7, 2.0), TextPart("old"))), (Modality.IMAGE,))


def test_texts_share_the_weight_of_the_part_that_they_stand_for():
    joint, doubt = ask_by_texts(ASKED, {Modality.AUDIO}, lambda _: ["two  bells", "a bell", ""])
    expected = (TextPart("two bells", 1.0), TextPart("a bell", 1.0), TextPart("old"))
    assert joint.query.parts == expected
    assert joint.modalities == (Modality.IMAGE,)
    assert 'by texts of the library, "two bells", "a bell"' in doubt


def test_without_texts_nothing_connects():
    alone = JointQuery(Query((ItemPart(7),)), (Modality.IMAGE,))
    with pytest.raises(UsageError, match="No encoder takes audio beside image"):
        ask_by_texts(alone, {Modality.AUDIO}, lambda _: [])
