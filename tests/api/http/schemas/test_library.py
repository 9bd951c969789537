import pytest
from pydantic import ValidationError

from api.http.schemas.library import LibraryRequest


@pytest.mark.parametrize(
    "body", ['{"languages": "zh"}', '{"language": 5}', '{"language": "%s"}' % ("x" * 36)]
)
def test_unknown_fields_and_values_are_refused(body):
    with pytest.raises(ValidationError):
        LibraryRequest.model_validate_json(body)


def test_no_language_in_particular():
    assert LibraryRequest().language is None
