"""One run for each space: what ends it, and what goes on."""

import pytest

from indexer.progress import Summary
from indexer.spaces import index_spaces
from retrieval.errors import EncoderUnavailableError


def unavailable(*names):
    def index(encoder):
        if encoder in names:
            raise EncoderUnavailableError(f"no {encoder}")
        return Summary(embedded=len(encoder))

    return index


def test_a_space_without_its_encoder_is_left_behind_and_the_others_go_on():
    runs = list(index_spaces(["a", "bb", "ccc"], unavailable("bb")))
    assert [(run.encoder, run.summary.embedded) for run in runs] == [
        ("a", 1),
        ("bb", 0),
        ("ccc", 3),
    ]
    assert [run.problem for run in runs] == [None, "no bb", None]


def test_the_first_space_must_work():
    with pytest.raises(EncoderUnavailableError, match="no a"):
        list(index_spaces(["a", "bb"], unavailable("a")))


def test_nothing_follows_an_interruption():
    runs = list(index_spaces(["a", "b"], lambda _: Summary(interrupted=True)))
    assert [run.encoder for run in runs] == ["a"]
