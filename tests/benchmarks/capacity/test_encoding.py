import pytest

from benchmarks.capacity.constants import value
from benchmarks.capacity.encoding import (
    dimension_of,
    encoding_of,
    query_core_s,
    text_encoding_of,
)
from benchmarks.capacity.measurements import Encoding, Measurements, bundled_measurements
from retrieval.encoders.registry import STARTER
from retrieval.errors import UsageError

MEASURED = bundled_measurements()


def test_a_measured_encoder_is_not_estimated():
    found = encoding_of(STARTER, MEASURED)
    assert (found.measured, found.resource) == (True, "core")
    own = Encoding(0.001, "gpu", "mine.json")
    assert encoding_of("ViT-L-14", Measurements(encoding={"ViT-L-14": own})) == own


def test_a_published_rate_is_taken_as_it_is_and_called_so():
    found = encoding_of("open_clip:ViT-L-14/openai", MEASURED)
    assert 1 / found.seconds == pytest.approx(value("gpu_images_ViT-L-14"))
    assert "published" in found.source
    assert "not measured here" in found.source
    assert not found.measured


def test_others_are_estimated_and_slower_where_they_do_more():
    base, huge = (encoding_of(name, MEASURED) for name in ("ViT-B-32-SigLIP2-256", "ViT-H-14"))
    assert base.seconds < encoding_of("ViT-L-14", MEASURED).seconds < huge.seconds
    assert "estimated" in base.source


def test_an_encoder_of_unknown_cost_is_refused():
    with pytest.raises(UsageError, match="costs is unknown"):
        encoding_of("local-dir:/models/mine", MEASURED)


def test_dimensions():
    assert dimension_of("starter") == 512
    assert dimension_of("open_clip:ViT-L-14/openai") == 768


def test_texts_take_their_share_of_operations():
    image = encoding_of("ViT-L-14", MEASURED)
    text = text_encoding_of("ViT-L-14", image)
    assert text.seconds == pytest.approx(image.seconds * 13.3 / 162.03)
    assert text_encoding_of("starter", image).seconds == value("text_core_s_starter")
    assert query_core_s("ViT-L-14") > query_core_s("starter") == value("query_core_s_starter")
