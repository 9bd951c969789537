"""The outline of the land on the map of the page."""

import re

from tools.coastline import SVG, path_of, rings


def test_rings_of_arcs_forwards_and_backwards():
    topology = {
        "transform": {"scale": [0.5, 1], "translate": [-10, 0]},
        "arcs": [[[0, 0], [4, 0], [0, 2]], [[0, 0], [0, 2], [4, 0]]],
        "objects": {"land": {"geometries": [{"arcs": [[[0, -2]]]}]}},
    }
    [ring] = rings(topology)
    assert ring == [(-10, 0), (-8, 0), (-8, 2), (-10, 2), (-10, 0)]


def test_land_at_the_edge_is_drawn_at_both():
    arc = [[179, 0], [2, 0], [0, 2], [-2, 0], [0, -2]]
    topology = {
        "transform": {"scale": [1, 1], "translate": [0, 0]},
        "arcs": [[arc[0], [-358, 0], *arc[2:3], [358, 0], arc[4]]],
        "objects": {"land": {"geometries": [{"arcs": [[[0]]]}]}},
    }
    east, west = rings(topology)
    assert east == [(179, 0), (181, 0), (181, 2), (179, 2), (179, 0)]
    assert [x for x, _ in west] == [-181, -179, -179, -181, -181]


def test_a_path_is_in_tenths_of_a_degree_down_from_the_north():
    square = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.04), (0.0, 1.0), (0.0, 0.0)]
    assert path_of(square) == "M0 0l10 0 0-10 -10 0 0 10z"
    assert path_of([(0.0, 0.0), (0.01, 0.0), (0.0, 0.01), (0.0, 0.0)]) == ""


def test_the_drawing_is_small_and_harmless():
    text = SVG.read_text(encoding="utf-8")
    assert len(text) < 60_000
    assert re.fullmatch(
        r'<svg [^<>]*><!-- [\w ,]* --><path d="[-\d Mlz]*" fill="#808080"/></svg>\n', text
    )
