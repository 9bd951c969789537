"""API keys: how they are read and compared."""

import hmac
import io
import os
from pathlib import Path

import pytest

from api.http.middleware import keys
from api.http.middleware.keys import KeyRing, keep_private, new_key, read_keys
from retrieval.errors import UsageError

READER = "reader-secret-0123456789"
WRITER = "writer-secret-0123456789"
KEYS = f"eve:read:{READER} bob:write:{WRITER}"


def test_timing_tells_nothing_of_a_key(monkeypatch):
    """Whichever key is sent, all are compared, each in constant time."""
    ring = read_keys(KEYS, None)
    compared = []

    def counting(known: bytes, sent: bytes) -> bool:
        compared.append(len(known) == len(sent) == 32)
        return hmac_compare(known, sent)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counting)
    for secret in (READER, WRITER, READER[:-1] + "x", "x", "é" * 10_000):
        compared.clear()
        ring.client_of(secret)
        assert compared == [True, True]


@pytest.mark.parametrize(
    "line",
    [
        "eve",
        "eve:read",
        "eve:read:",
        ":read:0123456789abcdef",
        "eve::0123456789abcdef",
        "eve:read:short",
        "eve:read:é0123456789abcdef",
        "eve:read,root:0123456789abcdef",
        f"a:read:{READER} a:write:{WRITER}",
    ],
)
def test_weak_and_wrong_keys_are_refused(line):
    with pytest.raises(UsageError):
        read_keys(line, None)


def test_keys_come_from_a_file_with_comments(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the house\n\n eve:read:{READER}\n{new_key('me')}\n", encoding="utf-8")
    ring = read_keys("", file)
    client = ring.client_of(READER)
    assert client is not None
    assert (client.name, client.scopes) == ("eve", {"read"})
    file.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no API key"):
        read_keys("", file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys("", tmp_path / "gone")
    assert not KeyRing()


def test_keys_are_read_again_when_their_file_changes(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(keys, "_CHECK_S", 0.0)
    file = tmp_path / "keys"
    file.write_text(f"eve:read:{'a' * 20}")
    store = keys.KeyStore("", file)
    file.write_text(f"bob:write:{'b' * 22}")
    assert store.client_of("a" * 20) is None
    assert store.client_of("b" * 22).name == "bob"
    file.write_text("no key")
    assert store.client_of("b" * 22).name == "bob"  # never open, never locked out
    assert "not reloaded" in caplog.text
    file.unlink()
    assert store.client_of("b" * 22).name == "bob"


def test_keys_are_read_again_when_told_to(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"eve:read:{'a' * 20}")
    store = keys.KeyStore("", file)
    file.write_text(f"eve:read:{'c' * 20}")
    store.reload()
    assert store.client_of("a" * 20) is None
    assert store.client_of("c" * 20).name == "eve"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_new_key_goes_to_a_file_that_only_its_owner_can_read(tmp_path):
    file = tmp_path / "keys.txt"
    for before, was_open in ((0o644, True), (0o600, False)):
        file.touch()
        file.chmod(before)
        with file.open("a") as output:
            assert keep_private(output) is was_open
        assert file.stat().st_mode & 0o777 == 0o600
    with Path(os.devnull).open("w") as output:
        assert not keep_private(output)
    assert not keep_private(io.StringIO())
