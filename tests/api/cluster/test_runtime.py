"""Addresses of clusters, and what is said where there is none."""

import os
import subprocess
import sys

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


@pytest.mark.slow
def test_a_ray_that_is_started_here_is_told_before_its_import_to_keep_others_out() -> None:
    pytest.importorskip("ray", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        capture_output=True,
        text=True,
        env={n: v for n, v in os.environ.items() if not n.startswith("RAY_")},
        check=True,
    )
    assert done.stdout.split() == ["False", "True", "64"]


_ASK = """
import os
from api.cluster.runtime import prepare
prepare("local")
from ray._private.ray_constants import ENABLE_RAY_CLUSTER
from ray._private.authentication.authentication_utils import is_token_auth_enabled
print(ENABLE_RAY_CLUSTER, is_token_auth_enabled(), len(os.environ["RAY_AUTH_TOKEN"]))
"""
