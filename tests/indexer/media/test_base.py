"""What readers give goes through processes, and into the catalog field by field."""

import pickle
from dataclasses import fields

from indexer.media.base import Annotation, Decoded, Locator, Piece
from retrieval.catalog import ItemEntry
from retrieval.media import Metadata, Modality


def test_what_was_decoded_comes_back_from_a_decoder():
    piece = Piece(Modality.TEXT, "words", Locator("r17", columns={"tag": ["x", 1, None]}))
    decoded = Decoded(
        (piece,), Metadata(camera="Canon"), 64, (Annotation("/a.jpg", {"said": True}),)
    )
    assert pickle.loads(pickle.dumps(decoded)) == decoded


def test_where_a_piece_is_can_be_recorded():
    entry = {field.name: field.type for field in fields(ItemEntry)}
    for field in fields(Locator):
        assert field.name in entry
    assert vars(Locator("p3", page=3))["page"] == 3


def test_a_reader_that_says_nothing_else_has_read_it_all():
    read = Decoded((Piece(Modality.TEXT, "words"),))
    assert read.next is None
    assert read.pieces[0].locator == Locator("")
    assert read.metadata == Metadata()
