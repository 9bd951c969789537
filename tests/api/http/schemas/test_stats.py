"""The JSON of statistics."""

import pytest
from pydantic import ValidationError

from api.http.schemas.stats import Stats


def test_a_client_reads_back_what_the_service_told(client):
    body = client.get("/v1/stats").json()
    dated = body | {"taken_between": [1, 2]}
    assert Stats.model_validate(dated).model_dump(mode="json") == dated
    stats = Stats.model_validate(body)
    assert stats.model_dump(mode="json") == body
    assert set(body) == set(Stats.model_fields)


@pytest.mark.parametrize(
    "wrong", [{"taken_between": [1]}, {"kinds": {"hologram": 1}}, {"images": "many"}]
)
def test_an_answer_of_another_shape_is_refused(client, wrong):
    body = client.get("/v1/stats").json()
    with pytest.raises(ValidationError):
        Stats.model_validate(body | wrong)
