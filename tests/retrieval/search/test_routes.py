import pytest

from retrieval.encoders.base import Space
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.search.routes import choose_routes, require_takers, routes_in

IMAGE, TEXT, AUDIO = Modality
PICTURES = Space("starter", "a", "b", 8)
SOUNDS = Space("clap:x/y", "a", "b", 8)
BOTH = [PICTURES, SOUNDS]


def chosen(modalities, needed=(), spaces=BOTH, filled=True):
    names = {PICTURES.id: "pictures", SOUNDS.id: "sounds"}
    routes = choose_routes(modalities, needed, spaces, lambda *_: filled)
    return [(names[space_id], modality) for space_id, modality in routes]


def test_each_modality_is_found_in_the_space_that_takes_it():
    everything = [("pictures", IMAGE), ("pictures", TEXT), ("sounds", AUDIO)]
    assert chosen(tuple(Modality)) == everything
    turned = [("pictures", IMAGE), ("sounds", TEXT), ("sounds", AUDIO)]
    assert chosen(tuple(Modality), spaces=BOTH[::-1]) == turned


def test_a_query_is_asked_where_the_encoder_takes_it():
    assert chosen(tuple(Modality), {AUDIO}) == [("sounds", TEXT), ("sounds", AUDIO)]
    assert chosen(tuple(Modality), {IMAGE}) == [("pictures", IMAGE), ("pictures", TEXT)]


def test_what_no_encoder_joins_has_no_route():
    assert chosen((IMAGE,), {AUDIO}) == []
    assert chosen((AUDIO,), {IMAGE}) == []
    assert chosen((IMAGE,), {AUDIO}, spaces=BOTH[::-1]) == []


def test_spaces_without_sounds_change_nothing():
    before = [("pictures", IMAGE), ("pictures", TEXT)]
    assert chosen(tuple(Modality), spaces=[PICTURES]) == before
    assert chosen(tuple(Modality), filled=False) == before
    assert chosen((AUDIO,), spaces=[PICTURES]) == [("pictures", AUDIO)]


def test_spaces_that_are_named_are_asked_for_all_unless_they_do_not_take_the_query():
    assert len(routes_in(BOTH, tuple(Modality), ())) == 6
    assert {space for space, _ in routes_in(BOTH, (AUDIO, TEXT), {AUDIO})} == {SOUNDS.id}
    assert routes_in([PICTURES], (IMAGE,), {AUDIO}) == [(PICTURES.id, IMAGE)]


def test_what_no_space_takes_says_how_to_add_one_that_does():
    require_takers({AUDIO, IMAGE}, BOTH)
    with pytest.raises(UsageError, match=r"takes audio.*clap:NAME_OR_DIR --space new"):
        require_takers({AUDIO}, [PICTURES])
