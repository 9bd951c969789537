"""What is told of named libraries."""

import pytest
from pydantic import ValidationError

from api.http.schemas.libraries import LibraryList, LibrarySchema


def test_a_library_has_one_of_four_states():
    one = {"name": "photos", "address": "/libraries/photos/"}
    for state in ("ready", "starting", "no library", "failed"):
        assert LibrarySchema.model_validate(one | {"state": state}).detail is None
    with pytest.raises(ValidationError, match="state"):
        LibraryList.model_validate({"libraries": [one | {"state": "lost"}]})
