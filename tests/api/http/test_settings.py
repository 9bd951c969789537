from pathlib import Path

import pytest
from pydantic import ValidationError

from api.http.settings import ServiceSettings
from retrieval.objects.paths import given_uri


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


@pytest.mark.parametrize(
    ("field", "given", "meant"),
    [
        (
            "allowed_hosts",
            "Photos.Example.org. b.example:8443",
            ("photos.example.org", "b.example:8443"),
        ),
        (
            "allowed_hosts",
            "::1 [::2]:80 bücher.example",
            ("[::1]", "[::2]:80", "xn--bcher-kva.example"),
        ),
        ("cors_origins", "HTTPS://Example.org/ http://a:80", ("https://example.org", "http://a")),
        ("cors_origins", "*", ("*",)),
        ("root_path", "photos/", "/photos"),
        ("root_path", "/", ""),
        ("trusted_proxies", "10.1.2.3/8,::1", ("10.0.0.0/8", "::1/128")),
        ("host", "[::1]", "::1"),
    ],
)
def test_settings_that_are_spelt_otherwise_are_mended(field, given, meant):
    assert getattr(ServiceSettings(**{field: given}), field) == meant


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("allowed_hosts", "https://photos.example.org"),
        ("allowed_hosts", "photos.example.org/photos"),
        ("allowed_hosts", "*"),
        ("allowed_hosts", "*.example.org"),
        ("allowed_hosts", "photos.example.org:http"),
        ("cors_origins", "https://example.org/page"),
        ("cors_origins", "example.org"),
        ("cors_origins", "https://*.example.org"),
        ("cors_origins", "null"),
        ("cors_origins", "https://me@example.org"),
        ("root_path", "https://example.org/photos"),
        ("root_path", "/a/../b"),
        ("root_path", "/a?b"),
        ("root_path", "/a b"),
        ("trusted_proxies", "proxy.example.org"),
        ("trusted_proxies", "*"),
        ("host", "http://0.0.0.0"),
        ("host", "0.0.0.0:8765"),
        ("host", "*"),
        ("uploads", "~nobody-has-this-name/uploads"),
    ],
)
def test_settings_that_cannot_work_are_refused(field, given):
    with pytest.raises(ValidationError, match="Value error"):
        ServiceSettings(**{field: given})


def test_a_tilde_is_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MMSEARCH_INDEX_BELOW", "~/a:/b")
    settings = ServiceSettings(uploads=Path("~/uploads"), api_keys_file=Path("~/keys"))
    assert settings.uploads == tmp_path / "uploads"
    assert settings.api_keys_file == tmp_path / "keys"
    assert settings.index_below == (tmp_path / "a", Path("/b"))


def test_addresses_of_sources_are_told_from_the_paths_of_a_list(monkeypatch):
    monkeypatch.setenv("MMSEARCH_INDEX_BELOW", "/a:s3://bucket/x:https://host:8443/y:/b")
    assert [given_uri(path) or str(path) for path in ServiceSettings().index_below] == [
        *("/a", "s3://bucket/x", "https://host:8443/y", "/b")
    ]
