import numpy as np
import pytest

from retrieval.filters import Filter
from retrieval.indices.base import ENGINES, AllowedRows, Effort, VectorEngine, load_engine


@pytest.mark.parametrize("name", ENGINES)
def test_engines_are_loaded_by_name(name):
    engine = load_engine(name)
    assert issubclass(engine, VectorEngine)
    assert engine.name == name


def test_allowed_rows_have_every_form():
    where = Filter(camera="canon")
    allowed = AllowedRows(np.array([True, False, True, True]), where)
    assert (allowed.ids.tolist(), allowed.count) == ([0, 2, 3], 3)
    assert allowed.part(0, 4) is allowed
    assert allowed.part(1, 3).bitmap.tolist() == [False, True]
    assert allowed.part(2, 6).bitmap.tolist() == [True, True, False, False]
    assert allowed.part(1, 3).filter == where


def test_an_effort_is_widened():
    assert Effort(8, 5, 0.9).widened(4) == Effort(32, 5, 0.9)
