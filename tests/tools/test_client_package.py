"""The thin client is made of the service's own."""

import ast

import pytest

from tools.client_package import PACKAGE, client, models, name_of


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("ServedAnswer", "Answer"),
        ("JobSchema", "Job"),
        ("FacetValueSchema_str_", "FacetValueStr"),
        ("Filter", "Filter"),
    ],
)
def test_models_have_short_names(schema, name):
    assert name_of(schema) == name


@pytest.mark.parametrize("made", [models, client])
def test_the_package_is_up_to_date(made):
    stored = (PACKAGE / f"{made.__name__}.py").read_text(encoding="utf-8")
    assert ast.dump(ast.parse(stored)) == ast.dump(ast.parse(made())), (
        "run `python -m tools.client_package`"
    )
