"""What encoding an image, a text and a query takes: measured, published, or estimated."""

from benchmarks.capacity.constants import value
from benchmarks.capacity.encoders import (
    PUBLISHED,
    encoder_cost,
    gpu_images_per_second,
    require_encoder_cost,
    short_name,
)
from benchmarks.capacity.measurements import Encoding, Measurements


def dimension_of(encoder: str) -> int:
    """Return the dimension of an encoder; raises UsageError where it is unknown."""
    if short_name(encoder).startswith("starter"):
        return 512
    return require_encoder_cost(encoder).dimension


def encoding_of(encoder: str, measured: Measurements) -> Encoding:
    """Return what encoding an image takes: measured, else estimated for a GPU from operations.

    Raises UsageError for an encoder of which neither is known.
    """
    name = short_name(encoder)
    if name in measured.encoding:
        return measured.encoding[name]
    operations = require_encoder_cost(encoder).image_operations
    published = [
        (require_encoder_cost(one).image_operations, value(f"gpu_images_{one}"))
        for one in PUBLISHED
    ]
    rate = gpu_images_per_second(operations, published)
    is_published = name in PUBLISHED
    source = (
        f"published for one A100 (gpu_images_{name}), not measured here"
        if is_published
        else f"estimated from {operations / 1e9:,.1f}e9 operations an image and the published "
        "rates of one A100 (gpu_images_*), not measured here"
    )
    return Encoding(1 / rate, "gpu", source, measured=False)


def text_encoding_of(encoder: str, image: Encoding) -> Encoding:
    """Return what encoding a chunk of text takes: in proportion to the operations of an image."""
    cost = encoder_cost(encoder)
    if cost is None:
        return Encoding(value("text_core_s_starter"), "core", "text_core_s_starter")
    share = cost.text_operations / cost.image_operations
    return Encoding(
        image.seconds * share,
        image.resource,
        f"{share:.2f} times an image, by the operations",
        measured=False,
    )


def query_core_s(encoder: str) -> float:
    """Estimate the CPU seconds of encoding a text query and answering it, without its search."""
    cost = encoder_cost(encoder)
    if cost is None:
        return value("query_core_s_starter")
    return value("query_core_s_starter") + cost.text_operations / value("cpu_operations_per_second")
