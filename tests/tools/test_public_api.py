"""The public API is what was recorded."""

from tools.public_api import PACKAGES, RECORD, public_api


def test_the_public_api_is_what_was_recorded():
    recorded = RECORD.read_text(encoding="utf-8").splitlines()
    found = public_api().splitlines()
    gone = [line for line in recorded if line not in found]
    new = [line for line in found if line not in recorded]
    assert (gone, new) == ([], []), (
        "run `python -m tools.public_api`, and see what version it needs"
    )


def test_every_package_is_recorded():
    text = RECORD.read_text(encoding="utf-8")
    for package in PACKAGES:
        assert f"class {package}." in text
