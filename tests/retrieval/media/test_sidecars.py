import json
from datetime import UTC, datetime

import pytest

from retrieval.media import Metadata
from retrieval.media.sidecars import SidecarNames, with_sidecars

FROM_CAMERA = Metadata(
    taken_at=1_440_000_000,
    taken_local=1_440_007_200,
    camera="Acme",
    latitude=1.0,
    longitude=2.0,
    text="a dog",
    date_source="exif",
    columns={"rating": 1, "keyword": ["dog"]},
)


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("a.jpg", "a.xmp"),
        ("a.jpg", "a.jpg.xmp"),
        ("IMG.JPG", "img.jpg.XMP"),
        ("a.jpg", "a.jpg.json"),
        ("a.jpg", "a.jpg.supplemental-metadata.json"),
        ("a.jpg", "a.jpg.supplemental-me.json"),
        ("a.jpg", "a.jpg.s.json"),
        ("a(1).jpg", "a.jpg(1).json"),
        ("a(1).jpg", "a.jpg.supplemental-metadata(1).json"),
        ("a(12).jpg", "a.jpg.suppl(12).json"),
        ("a(1).jpg", "a(1).jpg.json"),
        ("a-edited.jpg", "a.jpg.json"),
        ("a-edited(1).jpg", "a.jpg(1).json"),
        ("x" * 43 + ".jpg", "x" * 43 + ".jp.json"),
        ("x" * 47 + ".jpg", "x" * 46 + ".json"),
        (
            "IMG_20190714_093000_very_long_name.jpg",
            "IMG_20190714_093000_very_long_name.jpg.suppl.json",
        ),
    ],
)
def test_sidecars_are_found_by_name(name, sidecar):
    assert SidecarNames([sidecar, "other.jpg.json", "other.xmp"]).of(name) == (sidecar,)


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("a.jpg", "b.xmp"),
        ("a.jpg", "a.jpg(1).json"),
        ("a(1).jpg", "a.jpg.json"),
        ("a.jpg", "a.jpg.other.json"),
        ("a.jpg", "a.json"),
        ("b.jpg", "a.jpg.xmp"),
    ],
)
def test_what_is_about_another_file(name, sidecar):
    assert SidecarNames([sidecar]).of(name) == ()


def test_the_more_exact_name_comes_first():
    names = SidecarNames(["a.jpg.json", "a.xmp", "a.jpg.xmp"])
    assert names.of("a.jpg") == ("a.jpg.xmp", "a.xmp", "a.jpg.json")
    assert names
    assert not SidecarNames([])


def xmp(attributes: str, inner: str = "") -> str:
    return (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF"
        " xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"
        " xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:xmp='http://ns.adobe.com/xap/1.0/'"
        " xmlns:exif='http://ns.adobe.com/exif/1.0/'>"
        f"<rdf:Description {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def test_what_a_person_changed_comes_before_the_file(tmp_path):
    path = tmp_path / "a.xmp"
    subject = "<dc:subject><rdf:Bag><rdf:li>Cat</rdf:li></rdf:Bag></dc:subject>"
    path.write_text(xmp("xmp:Rating='5' exif:DateTimeOriginal='1955-01-02'", subject))
    found, notes = with_sidecars(FROM_CAMERA, [str(path)])
    assert notes == ()
    assert found.taken_local == int(datetime(1955, 1, 2, tzinfo=UTC).timestamp())
    assert found.date_source == "sidecar"
    assert (found.camera, found.latitude, found.longitude) == ("Acme", 1.0, 2.0)
    assert found.columns == {"rating": 5, "keyword": ["dog", "Cat"]}
    assert found.text == "Cat\na dog"


def test_the_first_of_several_counts(tmp_path):
    for name, rating in (("a.jpg.xmp", 5), ("a.xmp", 2)):
        (tmp_path / name).write_text(xmp(f"xmp:Rating='{rating}'"))
    paths = [str(tmp_path / name) for name in ("a.jpg.xmp", "a.xmp")]
    found, _ = with_sidecars(Metadata(), paths)
    assert found.columns == {"rating": 5}


def takeout(seconds: int) -> dict[str, object]:
    return {
        "title": "a.jpg",
        "description": "on the beach",
        "photoTakenTime": {"timestamp": str(seconds), "formatted": "whenever"},
        "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
        "geoDataExif": {"latitude": 48.2, "longitude": 16.4},
        "people": [{"name": "Ann"}, {"name": "Bob"}, {}],
    }


def test_google_takeout_adds_what_the_file_does_not_say(tmp_path):
    path = tmp_path / "a.jpg.json"
    path.write_text(json.dumps(takeout(1_440_000_100)))
    found, notes = with_sidecars(Metadata(), [str(path)])
    assert notes == ()
    assert found == Metadata(
        taken_at=1_440_000_100,
        latitude=48.2,
        longitude=16.4,
        text="on the beach\nAnn, Bob",
        date_source="sidecar",
        columns={"person": ["Ann", "Bob"]},
    )
    found, _ = with_sidecars(FROM_CAMERA, [str(path)])
    assert (found.taken_local, found.date_source) == (1_440_007_200, "exif")
    assert (found.latitude, found.longitude) == (1.0, 2.0)
    assert found.text == "a dog\non the beach\nAnn, Bob"


def test_a_date_that_was_changed_in_the_service_counts(tmp_path):
    path = tmp_path / "a.jpg.json"
    path.write_text(json.dumps(takeout(-500_000_000)))
    found, _ = with_sidecars(FROM_CAMERA, [str(path)])
    assert (found.taken_at, found.taken_local) == (-500_000_000, None)
    assert found.date_source == "sidecar"


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"photoTakenTime": 5, "geoData": [1], "people": {"a": 1}, "description": 7}',
        '{"photoTakenTime": {"timestamp": "9999999999999999"}}',
        '{"photoTakenTime": {"timestamp": "0"}, "geoData": {"latitude": NaN, "longitude": 1}}',
        '{"geoData": {"latitude": "x"}}',
    ],
)
def test_json_of_something_else_says_nothing(tmp_path, content):
    path = tmp_path / "a.jpg.json"
    path.write_text(content)
    assert with_sidecars(FROM_CAMERA, [str(path)]) == (FROM_CAMERA, ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xmp", b"<x"),
        ("a.xmp", b"<!DOCTYPE x [<!ENTITY a 'b'>]><x/>"),
        ("a.xmp", b" " * ((4 << 20) + 1)),
        ("a.jpg.json", b"{"),
        ("a.jpg.json", b"[" * 100_000),
        ("a.jpg.json", b"\xff\xfe"),
    ],
)
def test_a_damaged_sidecar_is_told(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    found, notes = with_sidecars(FROM_CAMERA, [str(path)])
    assert found == FROM_CAMERA
    assert len(notes) == 1
    assert notes[0].startswith(f"its sidecar {name} cannot be read (")


def test_a_sidecar_that_is_gone_is_told(tmp_path):
    assert len(with_sidecars(FROM_CAMERA, [str(tmp_path / "a.xmp")])[1]) == 1
