import os

from api.http.schemas.facets import FacetsSchema
from retrieval.search.facets import Facets, FacetValue


def test_paths_and_values_become_json():
    folder = FacetValue(os.fsdecode(b"/\xff"), 2)
    facets = Facets(2, folders=(folder,), columns={"a": (FacetValue(True, 1), FacetValue(1, 1))})
    schema = FacetsSchema.of(facets)
    text = schema.model_dump_json()
    assert FacetsSchema.model_validate_json(text) == schema
    assert [found.value for found in schema.columns["a"]] == [True, 1]
    assert schema.folders[0].count == 2
