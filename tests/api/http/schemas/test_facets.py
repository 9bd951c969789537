import os

from api.http.schemas.facets import FacetsSchema, FacetValuesSchema
from retrieval.search.facet_values import FacetValues, NestedValue
from retrieval.search.facets import Facets, FacetValue


def test_paths_and_values_become_json():
    folder = FacetValue(os.fsdecode(b"/\xff"), 2)
    facets = Facets(2, folders=(folder,), columns={"a": (FacetValue(True, 1), FacetValue(1, 1))})
    schema = FacetsSchema.of(facets)
    text = schema.model_dump_json()
    assert FacetsSchema.model_validate_json(text) == schema
    assert [found.value for found in schema.columns["a"]] == [True, 1]
    assert schema.folders[0].count == 2


def test_values_of_one_facet_become_json():
    value = NestedValue("Paris", 2, ("France", os.fsdecode(b"\xff")), has_more=True)
    schema = FacetValuesSchema.of(FacetValues(3, (value, NestedValue(True, 1)), left_out=4))
    text = schema.model_dump_json()
    assert FacetValuesSchema.model_validate_json(text) == schema
    assert schema.values[0].within[0] == "France"
    assert schema.values[1].value is True
    assert (schema.total, schema.left_out) == (3, 4)
