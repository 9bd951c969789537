import math
import random

from retrieval.media import places
from retrieval.media.places import place_name


def names(latitude, longitude):
    found = place_name(latitude, longitude)
    return found.split("\n") if found else []


def test_a_place_has_the_name_of_the_city_around_it():
    eiffel_tower = names(48.8584, 2.2945)
    assert eiffel_tower[0] == "Paris"
    assert eiffel_tower[-2:] == ["Île-de-France", "France"]
    assert names(52.52, 13.405)[0] == "Berlin"
    assert "Mitte" in names(52.52, 13.405)
    assert names(-33.86, 151.2)[0] == "Sydney"
    assert names(48.80, 2.12)[0] == "Versailles"


def test_far_from_any_city():
    assert names(0, -30) == []
    assert names(91, 0) == []
    assert names(math.nan, 0) == []


def test_near_the_180th_meridian():
    east, west = names(-16.8, 179.99), names(-16.8, -179.99)
    assert east[-1] == west[-1] == "Fiji"


def test_the_nearest_city_is_that_of_a_search_through_all():
    cities = places._cities()
    generator = random.Random(1)
    for _ in range(20):
        latitude, longitude = generator.uniform(35, 60), generator.uniform(-5, 30)
        found = names(latitude, longitude)
        if not found:
            continue
        at = places._on_sphere(
            places.np.array([round(latitude, 3)]), places.np.array([round(longitude, 3)])
        )
        nearest = int(((cities.points - at) ** 2).sum(axis=1).argmin())
        assert found[-1] == cities.names[nearest][3]


def test_equal_places_are_named_once():
    assert len({place_name(48.8584, 2.2945), place_name(48.85841, 2.29449)}) == 1
    assert place_name(48.8584, 2.2941) is place_name(48.85841, 2.29412)
