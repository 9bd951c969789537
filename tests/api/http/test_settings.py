import pytest

from api.http.settings import ServiceSettings


def test_the_service_listens_on_the_loopback_interface_by_default():
    assert ServiceSettings().is_loopback


def test_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("MMSEARCH_HOST", "0.0.0.0")
    monkeypatch.setenv("MMSEARCH_PORT", "9000")
    settings = ServiceSettings()
    assert settings.port == 9000
    assert not settings.is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_addresses(host):
    assert ServiceSettings(host=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_addresses(host):
    assert not ServiceSettings(host=host).is_loopback
