"""The notices name all that is shipped and installed, and each model card its licence."""

import re

import pytest

from tools import licences

CARDS = sorted((licences.ROOT / "retrieval").rglob("MODEL_CARD.md"))


def test_each_dependency_has_its_line():
    text = licences.NOTICES.read_text(encoding="utf-8")
    table = text.partition("## Installed beside it")[2]
    rows = re.findall(r"^\| ([\w.-]+) \| ([\w-]*) \| (.+) \|$", table, re.MULTILINE)
    listed = {name: extra for name, extra, _ in rows if name != "package"}
    listed.pop("---", None)
    assert listed == licences.dependencies(), "run `python -m tools.licences`"
    assert all(licence.strip() for _, _, licence in rows)


def test_the_licences_are_those_of_the_packages():
    assert licences.licence_of("numpy").startswith("BSD")
    with pytest.raises(LookupError, match="not installed"):
        licences.licence_of("no-such-package-of-ours")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parts[-3])
def test_each_part_of_a_card_says_its_licence(card):
    parts = re.split(r"^# ", card.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert parts
    for part in parts:
        assert re.search(r"^Licence: \S", part, re.MULTILINE), part.splitlines()[0]


def test_all_weights_lie_beside_a_card():
    folders = {card.parent for card in CARDS}
    weights = [
        file
        for ending in ("*.onnx", "*.safetensors")
        for file in (licences.ROOT / "retrieval").rglob(ending)
    ]
    assert weights
    assert all(folders & set(file.parents) for file in weights)
