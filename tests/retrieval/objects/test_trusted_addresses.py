"""What the user has named is recorded, and nothing else is trusted."""

import json
import os

import pytest

from retrieval.objects.trusted_addresses import TrustedAddresses

TRUSTED = TrustedAddresses("MMSEARCH_TEST_TRUSTED", "trusted-by-tests.json")
ADDRESS = "s3://bucket/photos"


@pytest.fixture(autouse=True)
def nothing_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(TRUSTED.variable, "")


def test_an_address_is_recorded_and_can_be_taken_back(monkeypatch):
    TRUSTED.add(ADDRESS)
    TRUSTED.add(ADDRESS)
    assert os.environ[TRUSTED.variable] == ADDRESS  # for child processes
    assert json.loads(TRUSTED.file.read_text()) == [ADDRESS]
    monkeypatch.setenv(TRUSTED.variable, "")
    assert TRUSTED.all() == [ADDRESS]
    assert TRUSTED.remove(ADDRESS)
    assert not TRUSTED.remove(ADDRESS)
    assert TRUSTED.all() == []


def test_a_variable_names_addresses_for_services(monkeypatch):
    monkeypatch.setenv(TRUSTED.variable, " s3://bucket/my photos\ns3+x://y ")
    assert TRUSTED.all() == ["s3+x://y", "s3://bucket/my photos"]
    monkeypatch.setenv(TRUSTED.variable, f"{ADDRESS} postgresql://host/b")
    assert TRUSTED.all() == ["postgresql://host/b", ADDRESS]
    assert not TRUSTED.remove(ADDRESS)
    assert TRUSTED.all() == ["postgresql://host/b"]
    assert not TRUSTED.file.exists()


@pytest.mark.parametrize("content", ["", "{", "{}", "[1, null]", "3", "\xff"])
def test_a_damaged_record_trusts_nothing(content):
    TRUSTED.file.parent.mkdir(parents=True, exist_ok=True)
    TRUSTED.file.write_text(content)
    assert TRUSTED.all() == []
    TRUSTED.add(ADDRESS)
    assert json.loads(TRUSTED.file.read_text()) == [ADDRESS]


def test_without_a_place_for_the_record_this_process_trusts(tmp_path):
    (tmp_path / "mmsearch").write_text("a file where the folder would be")
    with pytest.raises(OSError, match="mmsearch"):
        TRUSTED.record(ADDRESS)
    TRUSTED.add(ADDRESS)
    assert TRUSTED.all() == [ADDRESS]
