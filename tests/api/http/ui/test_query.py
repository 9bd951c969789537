"""Addresses of the page, and the filters that they are."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

QUERY = Path(__file__).parents[4] / "api/http/ui/query.js"

YEAR = {"taken_at": {"since": "2019", "before": "2020"}}
MONTH = {"taken_at": {"since": "2020-12", "before": "2021-01"}}
ROME = {"place": "Rome"}
PARIS = {"and": [{"place": "France"}, {"place": "Paris"}]}


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("", None),
        ("?camera=X100", {"camera_name": "X100"}),
        (
            "?source=%2Fa&from=2019-05-01",
            {
                "source": "/a",
                "taken_at": {"since": "2019-05-01T00:00:00"},
            },
        ),
        ("?camera=A&camera=B", {"or": [{"camera_name": "A"}, {"camera_name": "B"}]}),
        ("?date=2019", YEAR),
        ("?date=2019&date=2020-12&date=2020-13&date=x", {"or": [YEAR, MONTH]}),
        (
            "?date=2019&to=2019-05-01",
            {"and": [{"taken_at": {"before": "2019-05-02T00:00:00.000"}}, YEAR]},
        ),
        ("?place=Rome", ROME),
        ("?place=France%3EParis", PARIS),
        ("?place=France%3EParis&place=Rome", {"or": [PARIS, ROME]}),
        ("?column.a=%3Dx", {"columns": {"a": {"equals": "x"}}}),
        (
            "?column.a=x&column.a=%3Dy",
            {"or": [{"columns": {"a": {"contains": "x"}}}, {"columns": {"a": {"equals": "y"}}}]},
        ),
        ("?min.a.b=1.5&max.a.b=3", {"columns": {"a.b": {"min": 1.5, "max": 3}}}),
        ("?min.a=x&max.a=", None),
        (
            "?min.a=1&column.b=x",
            {"and": [{"columns": {"b": {"contains": "x"}}}, {"columns": {"a": {"min": 1}}}]},
        ),
        (
            "?size=640&kind=image",
            {"kind": ["image"], "or": [{"width": {"min": 640}}, {"height": {"min": 640}}]},
        ),
        (
            "?size=640&person=A&person=B",
            {
                "and": [
                    {"or": [{"width": {"min": 640}}, {"height": {"min": 640}}]},
                    {"or": [{"person": "A"}, {"person": "B"}]},
                ]
            },
        ),
    ],
)
def test_filters_of_an_address(address, where, tmp_path):
    assert read(address, tmp_path) == [where, where]


def read(address: str, tmp_path: Path):
    """Return the filter of an address, and that of the address that the page makes of it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js to run a module of the page")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(QUERY, tmp_path)
    (tmp_path / "query-files.js").write_text("export const fileBase64 = () => null;")
    program = f"""
        import {{ fromAddress, toAddress, whereOf }} from "./query.js";
        const query = fromAddress({json.dumps(address)});
        const again = fromAddress(toAddress(query).slice(2));
        console.log(JSON.stringify([whereOf(query), whereOf(again)]));
    """
    (tmp_path / "main.js").write_text(program)
    done = subprocess.run([node, tmp_path / "main.js"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)
