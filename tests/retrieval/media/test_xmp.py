import pytest

from retrieval.media.xmp import read_xmp

NAMES = """xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'
 xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:exif='http://ns.adobe.com/exif/1.0/'
 xmlns:tiff='http://ns.adobe.com/tiff/1.0/' xmlns:xmp='http://ns.adobe.com/xap/1.0/'
 xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/'
 xmlns:lr='http://ns.adobe.com/lightroom/1.0/' xmlns:digiKam='http://www.digikam.org/ns/1.0/'
 xmlns:MicrosoftPhoto='http://ns.microsoft.com/photo/1.0/'
 xmlns:MP='http://ns.microsoft.com/photo/1.2/'
 xmlns:MPRI='http://ns.microsoft.com/photo/1.2/t/RegionInfo#'
 xmlns:MPReg='http://ns.microsoft.com/photo/1.2/t/Region#'
 xmlns:mwg-rs='http://www.metadataworkinggroup.com/schemas/regions/'
 xmlns:Iptc4xmpExt='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'
 xmlns:Iptc4xmpCore='http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/'"""


def packet(inner: str, attributes: str = "") -> bytes:
    return (
        f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {NAMES}><rdf:Description rdf:about=''"
        f" {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def bag(*values: str) -> str:
    return "<rdf:Bag>" + "".join(f"<rdf:li>{value}</rdf:li>" for value in values) + "</rdf:Bag>"


def test_properties_as_elements_and_as_attributes():
    inner = "<xmp:Rating>4</xmp:Rating><xmp:Label>Red</xmp:Label><tiff:Make>Acme</tiff:Make>"
    attributes = "xmp:Rating='4' xmp:Label='Red' tiff:Make='Acme'"
    for data in (packet(inner), packet("", attributes)):
        found = read_xmp(data)
        assert (found.rating, found.label, found.make) == (4, "Red", "Acme")


def test_words_and_the_levels_of_keywords():
    inner = (
        f"<dc:subject>{bag('dog')}</dc:subject>"
        f"<lr:hierarchicalSubject>{bag('Animals|Dogs|Rex')}</lr:hierarchicalSubject>"
        f"<digiKam:TagsList>{bag('Places/Vienna')}</digiKam:TagsList>"
        "<photoshop:Headline>News</photoshop:Headline><photoshop:City>Wien</photoshop:City>"
        "<photoshop:Country>Austria</photoshop:Country>"
    )
    found = read_xmp(packet(inner))
    assert found.keywords == ["dog", "Animals", "Dogs", "Rex", "Places", "Vienna"]
    assert "News" in found.titles
    assert [place for place in found.places if place] == ["Wien", "Austria"]


def test_persons_in_every_way():
    region = "<rdf:Description mwg-rs:Name='Bob' mwg-rs:Type='Face'/>"
    code = "<rdf:Description mwg-rs:Name='12345' mwg-rs:Type='BarCode'/>"
    inner = (
        f"<Iptc4xmpExt:PersonInImage>{bag('Ann')}</Iptc4xmpExt:PersonInImage>"
        f"<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:RegionList>{bag(region, code)}"
        "</mwg-rs:RegionList></mwg-rs:Regions>"
        "<MP:RegionInfo rdf:parseType='Resource'><MPRI:Regions><rdf:Bag>"
        "<rdf:li MPReg:PersonDisplayName='Cyd' MPReg:Rectangle='0,0,1,1'/>"
        "</rdf:Bag></MPRI:Regions></MP:RegionInfo>"
    )
    assert read_xmp(packet(inner)).persons == ["Ann", "Bob", "Cyd"]


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        ("48,12.5N", "16,22.5E", (48 + 12.5 / 60, 16.375)),
        ("33,51,30S", "151,12,0W", (-33 - 51.5 / 60, -151.2)),
        ("-48.25", "16.5", (-48.25, 16.5)),
        ("0,0N", "0,0E", None),
        ("99,0N", "0,0E", None),
        ("48,61N", "16,0E", None),
        ("48,12.5N", "", None),
        ("48,12.5E", "16,0E", None),
        ("...", "16", None),
    ],
)
def test_positions(latitude, longitude, expected):
    inner = (
        f"<exif:GPSLatitude>{latitude}</exif:GPSLatitude>"
        f"<exif:GPSLongitude>{longitude}</exif:GPSLongitude>"
    )
    found = read_xmp(packet(inner)).position
    assert found == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("attributes", "rating"),
    [
        ("xmp:Rating='-1'", -1),
        ("xmp:Rating='3.5'", 3.5),
        ("xmp:Rating='99'", None),
        ("xmp:Rating='nan'", None),
        ("xmp:Rating=''", None),
        ("MicrosoftPhoto:Rating='75'", 4),
        ("MicrosoftPhoto:Rating='99'", 5),
    ],
)
def test_ratings(attributes, rating):
    assert read_xmp(packet("", attributes)).rating == rating


def test_dates_by_what_they_are_of():
    found = read_xmp(
        packet(
            "",
            "exif:DateTimeOriginal='broken' photoshop:DateCreated='1955' "
            "xmp:CreateDate='2015-08-22' exif:GPSTimeStamp='2015-08-22T08:00:00'",
        )
    ).dates
    assert set(found) == {"original", "digitized", "place"}
    assert found["place"] == (1440230400, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<x>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><x/>",
        b"<a>" * 100_000,
        b"\xff\xfe<",
    ],
)
def test_broken_and_hostile_packets_are_a_value_error(data):
    with pytest.raises(ValueError, match=r"broken XML|document type|nested"):
        read_xmp(data)
