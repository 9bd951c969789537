from dataclasses import replace

import pytest

from retrieval.catalog.records import Item, require_types
from retrieval.media import MediaKind, Modality


def item(path, modality, **more):
    return Item(1, path, MediaKind.IMAGE, modality, "abc", 10, 0, **more)


@pytest.mark.parametrize(
    ("path", "modality", "page", "has_picture"),
    [
        ("/a.jpg", Modality.IMAGE, None, True),
        ("/a.pdf", Modality.IMAGE, 3, True),
        ("/a.pdf", Modality.TEXT, 3, True),
        ("/a.pdf", Modality.TEXT, None, False),
        ("/a.txt", Modality.TEXT, None, False),
        ("/a.csv", Modality.TEXT, 3, False),
    ],
)
def test_texts_have_a_picture_where_their_page_can_be_drawn(path, modality, page, has_picture):
    assert item(path, modality, page=page).has_picture is has_picture


def test_pictures_are_told_apart_by_content_and_part():
    whole, copy, frame = (
        item(path, Modality.IMAGE, part=part)
        for path, part in [("/a.mp4", ""), ("/copy.mp4", ""), ("/a.mp4", "t1200")]
    )
    assert whole.picture_key == copy.picture_key == "abc"
    assert frame.picture_key == "abc-t1200"


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", "x"), ("text", b"\xff"), ("columns", [1]), ("path", None), ("time_s", "1")],
)
def test_a_value_of_another_type_is_no_item(field, value):
    whole = item("/a.jpg", Modality.IMAGE, width=8, columns={"a": 1}, time_s=1)
    assert require_types(whole) is whole
    with pytest.raises(TypeError, match=field):
        require_types(replace(whole, **{field: value}))
