"""Write `api/http/ui/land.svg`: the outline of the land, for the map of the page.

`python -m tools.coastline LAND.json` takes `land-110m.json` of the npm package world-atlas 2.0.2:
Natural Earth's land at 1:110 million, which is in the public domain, as TopoJSON. The drawing is in
degrees, longitude to the right and latitude downwards from the north pole.
"""

import json
import sys
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SVG = ROOT / "api" / "http" / "ui" / "land.svg"

_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="3600" height="1800" '
    'viewBox="-1800 -900 3600 1800"><!-- Natural Earth, public domain --><path d="'
)
_TAIL = '" fill="#808080"/></svg>\n'


def rings(topology: dict[str, Any]) -> Iterator[list[tuple[float, float]]]:
    """Yield the rings of the land in degrees, of a quantised topology (TopoJSON 1.0, 2.1)."""
    (scale_x, scale_y), (left, bottom) = (
        topology["transform"]["scale"],
        topology["transform"]["translate"],
    )
    arcs = [
        [
            (x * scale_x + left, y * scale_y + bottom)
            for x, y in accumulate(arc, lambda at, step: (at[0] + step[0], at[1] + step[1]))
        ]
        for arc in topology["arcs"]
    ]
    for geometry in topology["objects"]["land"]["geometries"]:
        for polygon in geometry["arcs"]:
            for ring in polygon:
                points: list[tuple[float, float]] = []
                for number in ring:
                    arc = arcs[number] if number >= 0 else arcs[~number][::-1]
                    points += arc[1:] if points else arc
                yield from whole(points)


def whole(ring: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Yield a ring without jumps from one edge of the map to the other.

    One that crosses the 180th meridian goes on past it, and is drawn at both edges. One around the
    pole, that of Antarctica, is closed along the lower edge.
    """
    turns = 0
    points = [ring[0]]
    for (before, _), (longitude, latitude) in pairwise(ring):
        turns += (before - longitude > 180) - (longitude - before > 180)
        points.append((longitude + 360 * turns, latitude))
    if turns:
        points += [(points[-1][0], -90.0), (points[0][0], -90.0)]
    yield points
    for shift in (-360, 360):
        if any(abs(longitude + shift) < 180 for longitude, _ in points):
            yield [(longitude + shift, latitude) for longitude, latitude in points]


def path_of(ring: list[tuple[float, float]]) -> str:
    """Draw a ring in tenths of a degree, each point by its distance from the last one."""
    points = [(round(longitude * 10), -round(latitude * 10)) for longitude, latitude in ring]
    kept = [points[0]]
    kept += [point for before, point in pairwise(points) if point != before]
    steps = [
        f"{x - left:d}{' ' if y >= top else ''}{y - top:d}"
        for (left, top), (x, y) in pairwise(kept)
    ]
    if len(steps) < 3:
        return ""
    return f"M{kept[0][0]} {kept[0][1]}l{' '.join(steps)}z"


def main(topology: Path) -> None:
    """Write the drawing."""
    land = json.loads(topology.read_text(encoding="utf-8"))
    SVG.write_text(_HEAD + "".join(map(path_of, rings(land))) + _TAIL, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
