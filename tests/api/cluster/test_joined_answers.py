"""Answers of shards are joined into that of one library."""

from api.cluster.joined_answers import JOINED


def test_collections_of_all_shards_are_counted_once() -> None:
    one = {"id": 1, "name": "trip", "items": 2}
    other = {"id": 2, "name": "home", "items": 0}
    answers = [{"collections": [one, other]}, {"collections": [one | {"items": 5}, other]}]
    assert JOINED["/v1/collections"](answers) == {"collections": [one | {"items": 7}, other]}


def test_changes_name_the_newest_item_of_all() -> None:
    answers = [
        {"revision": 3, "last_item": 9, "images": 1, "texts": 0, "sounds": 2, "jobs": 0},
        {"revision": 4, "last_item": 7, "images": 2, "texts": 1, "sounds": 1, "jobs": 0},
    ]
    assert JOINED["/v1/changes"](answers) == {
        "revision": 7,
        "last_item": 9,
        "images": 3,
        "texts": 1,
        "sounds": 3,
        "jobs": 0,
    }


def test_reasons_of_failures_add_up() -> None:
    answers = [
        {
            "failures": [{"path": "/a"}],
            "notes": [],
            "files_failed": 1,
            "files_noted": 0,
            "reasons": {"damaged": 1},
        },
        {
            "failures": [{"path": "/b"}, {"path": "/c"}],
            "notes": [{"path": "/d"}],
            "files_failed": 2,
            "files_noted": 1,
            "reasons": {"damaged": 1, "empty": 1},
        },
    ]
    joined = JOINED["/v1/notes"](answers)
    assert joined["reasons"] == {"damaged": 2, "empty": 1}
    assert [one["path"] for one in joined["failures"]] == ["/a", "/b", "/c"]
    assert joined["files_failed"] == 3


def test_points_of_most_files_come_first() -> None:
    answers = [
        {"total": 2, "points": [{"count": 2, "item_id": 5}]},
        {"total": 4, "points": [{"count": 3, "item_id": 9}, {"count": 1, "item_id": 1}]},
    ]
    joined = JOINED["/v1/map"](answers)
    assert joined["total"] == 6
    assert [point["item_id"] for point in joined["points"]] == [9, 5, 1]
