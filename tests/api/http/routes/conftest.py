"""What the client of a test module lists."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def items(client):
    """Items by the name of their file, as JSON spells it."""
    listed = client.get("/v1/items", params={"limit": 1000}).json()["items"]
    return {Path(item["path"]).name: item for item in listed}
