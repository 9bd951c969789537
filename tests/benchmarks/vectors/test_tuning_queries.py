"""The composition of the bundled query texts."""

from benchmarks.vectors.tuning_queries import compose
from retrieval.indices.tuning_queries import bundled_texts


def test_the_bundled_file_is_what_the_composition_makes():
    assert compose() == bundled_texts()


def test_texts_depend_on_the_seed_and_are_all_different():
    texts = compose(200, seed=1)
    assert len(texts) == len(set(texts)) == 200
    assert texts == compose(200, seed=1)
    assert len(set(texts) & set(compose(200, seed=2))) < 50
