"""The JSON of probes."""

from api.http.schemas import Health


def test_probes_tell_a_status_and_an_encoder_and_nothing_more(client, tiny_encoder):
    """Probes need no key: nothing about the library may be in them."""
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        expected = Health(status=status, encoder=tiny_encoder.space.encoder)
        assert client.get(path).json() == expected.model_dump()
