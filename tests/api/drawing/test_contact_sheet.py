from pathlib import Path

import pytest
from PIL import Image

from api.drawing.contact_sheet import write_contact_sheet
from retrieval.catalog import Item
from retrieval.errors import MMSearchError, UsageError
from retrieval.media import MediaKind, Modality
from retrieval.search.answer import Hit


def hits_of(folder: Path, *colours: str) -> list[Hit]:
    hits = []
    for rank, colour in enumerate(colours, start=1):
        path = folder / f"{colour} – 雪.png"
        Image.new("RGB", (300, 200), colour).save(path)
        item = Item(rank, str(path), MediaKind.IMAGE, Modality.IMAGE, "hash", 0, 0)
        hits.append(Hit(rank, item, 1 / rank))
    return hits


def test_hits_are_drawn_in_their_order(tmp_path):
    write_contact_sheet(hits_of(tmp_path, "red", "lime", "blue"), "colours", tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as sheet:
        middle = [sheet.getpixel((x, 170)) for x in (122, 354, 586)]
    assert middle == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_files_that_are_gone_leave_their_place_empty(tmp_path):
    hits = hits_of(tmp_path, "red", "lime")
    Path(hits[0].path).unlink()
    write_contact_sheet(hits, "x" * 500, tmp_path / "s.jpg")
    with Image.open(tmp_path / "s.jpg") as sheet:
        assert sheet.getpixel((354, 170))[1] > 200
        assert min(sheet.getpixel((122, 170))) > 200


def test_what_cannot_be_drawn_is_told(tmp_path):
    with pytest.raises(UsageError, match="no hits"):
        write_contact_sheet([], "x", tmp_path / "s.png")
    with pytest.raises(UsageError, match=r"must end in \.png"):
        write_contact_sheet(hits_of(tmp_path, "red"), "x", tmp_path / "s.xyz")
    with pytest.raises(MMSearchError, match="cannot be written"):
        write_contact_sheet(hits_of(tmp_path, "red"), "x", tmp_path / "nowhere" / "s.png")
