"""Sentences with the names of the image tower's ImageNet classes."""

from functools import cache

TEMPLATES = ("a photo of a {}", "{}")
NAMES_A_CLASS = 3


@cache
def class_names() -> tuple[tuple[str, ...], ...]:
    """List the WordNet names of the 1000 ImageNet-1k classes, in the classifier's order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return tuple(
        tuple(info.index_to_description(number).split(", ")[:NAMES_A_CLASS])
        for number in range(info.num_classes())
    )


def class_sentences() -> list[list[str]]:
    """Fill every template with every name of each class, best known name first."""
    return [
        [template.format(name) for name in names for template in TEMPLATES]
        for names in class_names()
    ]
