from api.http.schemas import MapPoints, MapRequest
from retrieval.catalog import MapPoint


def test_the_box_is_that_of_filters():
    box = MapRequest(south=-10, north=10, west=170, east=-170).box
    assert (box.south, box.north, box.west, box.east) == (-10, 10, 170, -170)


def test_the_total_counts_files():
    found = MapPoints.of([MapPoint(1.0, 2.0, 3, 4), MapPoint(5.0, 6.0, 7, 8)])
    assert found.total == 10
    assert found.points[1].model_dump() == {
        "latitude": 5.0,
        "longitude": 6.0,
        "count": 7,
        "item_id": 8,
    }
