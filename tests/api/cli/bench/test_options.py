"""Lists on the command line, and what is loaded once a process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.bench.options import (
    load_chosen_encoder,
    load_chosen_reranker,
    split_list,
    whole_numbers,
)
from retrieval.errors import UsageError


@given(st.lists(st.integers(min_value=1), min_size=1), st.sampled_from([",", ", ", " ,,"]))
def test_whole_numbers_are_read_as_written(numbers, comma):
    assert whole_numbers(comma.join(map(str, numbers)), "--clients") == numbers


@pytest.mark.parametrize("text", ["", ",", "0", "-1", "1,-2", "1.5", "1;2", "many", "1 2"])
def test_anything_else_is_an_error_that_names_the_option(text):
    with pytest.raises(UsageError, match="--clients takes comma-separated integers from 1"):
        whole_numbers(text, "--clients")


def test_lists_are_split_at_any_separator():
    assert split_list(" a, b ,,c ") == ("a", "b", "c")
    assert split_list("a,b; c", ";") == ("a,b", "c")
    assert split_list(" , ") == ()


def test_models_are_loaded_once_and_a_missing_reranker_is_told(tiny_checkpoint, capsys):
    name = f"local-dir:{tiny_checkpoint}"
    assert load_chosen_encoder(name, "cpu") is load_chosen_encoder(name, "cpu")
    load_chosen_reranker.cache_clear()
    assert load_chosen_reranker("none", name, "cpu") is None
    assert capsys.readouterr().err == ""
    assert load_chosen_reranker("auto", name, "cpu") is None
    assert "results are not reranked" in capsys.readouterr().err
