"""Addresses of clusters, and what is said where there is none."""

import pytest

from api.cluster.runtime import require_address
from retrieval.errors import UsageError


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379", "head.example:6379"])
def test_addresses(address: str) -> None:
    require_address(address)


@pytest.mark.parametrize("address", ["", "here", "ray://head:10001", "head:", ":1", "http://a/b:1"])
def test_other_texts_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        require_address(address)
