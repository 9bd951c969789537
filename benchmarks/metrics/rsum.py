"""Rsum: one figure for both directions of image-text retrieval."""

from benchmarks.metrics.base import Judgments
from benchmarks.metrics.hit_recall import hit_recall


def rsum(text_to_image: Judgments, image_to_text: Judgments) -> float:
    """Add hit recall at 1, 5 and 10 of both directions, in percent: 0 to 600.

    As the evaluation code of VSE++ (Faghri et al. 2018) prints it, and customary since in papers
    on Flickr30k and COCO.
    """
    return sum(
        100 * float(hit_recall(judgments, k).mean())
        for judgments in (text_to_image, image_to_text)
        for k in (1, 5, 10)
    )
