"""The pairs that an encoder is trained on: which photos, and how they are changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from api.cli.options import cache_directory, complain
from retrieval.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from api.cli.training_data import TrainingData
    from retrieval.training.encoders.distributed import Processes
    from retrieval.training.encoders.pairs import PairSource
    from retrieval.training.encoders.split_duplicates import SplitDuplicate

AUGMENTATIONS: dict[str, int | None] = {"none": None, "light": 0, "strong": 2}
"""Operations of RandAugment on an image."""

WARN, LEAVE_OUT, IGNORE = "warn", "leave-out", "ignore"
DUPLICATES = (WARN, LEAVE_OUT, IGNORE)
"""What becomes of photos to train on that are measured on, too."""

_KEPT_VARIANTS = 4
"""The cache of frozen layers grows with the variants."""


def without_duplicates(
    data: "Sequence[TrainingData]", choice: str, processes: "Processes"
) -> "list[TrainingData]":
    """Find near-duplicates between splits with `starter`, and warn of them or leave them out."""
    from api.cli import console
    from retrieval.encoders.registry import STARTER, load_encoder
    from retrieval.training.encoders import split_duplicates

    if choice == IGNORE or (choice == WARN and not processes.is_first):
        return list(data)
    measured = [photo for each in data for photo in (*each.validation, *each.test)]
    if not processes.is_first:
        processes.wait()  # for the vectors, which the first one has cached then
    try:
        encoder = load_encoder(STARTER, processes.device)
    except EncoderUnavailableError as problem:
        if choice == LEAVE_OUT:
            raise
        complain(f"Near-duplicates between the splits are not looked for: {problem}")
        return list(data)
    kept = []
    with console.stage_progress(quiet=not processes.is_first) as progress:
        for each in data:
            found = split_duplicates.find_split_duplicates(
                each.train,
                measured,
                encoder,
                cache=cache_directory(None, "duplicates"),
                on_progress=progress,
            )
            told = split_duplicates.describe_duplicates(found, left_out=choice == LEAVE_OUT)
            if told and processes.is_first:
                complain(told)
            kept.append(each if choice == WARN or not found else without_photos(each, found))
    if processes.is_first and choice == LEAVE_OUT:
        processes.wait()
    return kept


def without_photos(data: "TrainingData", found: "Sequence[SplitDuplicate]") -> "TrainingData":
    """Leave the training photos of pairs out. Raises UsageError if none is left."""
    from retrieval.training.encoders.split_duplicates import without_duplicates

    train = tuple(without_duplicates(data.train, found))
    if not data.classes:
        return replace(data, train=train)
    kept = {photo.path for photo in train}
    pairs = zip(data.train, data.classes, strict=True)
    classes = tuple(kind for photo, kind in pairs if photo.path in kept)
    return replace(data, train=train, classes=classes)


def pair_source(
    data: Sequence["TrainingData"], given: Mapping[str, Any], side: int
) -> "PairSource":
    """Make pairs of the photos of the datasets; side: of the encoder's input, in pixels."""
    from api.cli.training_data import WEBDATASET
    from retrieval.training.encoders.image_augmentation import RandomAugmentation
    from retrieval.training.encoders.pairs import PhotoPairs, PhotoSet
    from retrieval.training.encoders.text_augmentation import CaptionAugmentation
    from retrieval.training.encoders.webdataset_pairs import WebDatasetPairs

    operations = AUGMENTATIONS[given["augmentation"]]
    image = None if operations is None else RandomAugmentation(side, operations=operations)
    text = None
    if given["word_dropout"] or given["join_captions"]:
        text = CaptionAugmentation(given["word_dropout"], given["join_captions"])
    if given["pairs_an_epoch"] is not None:
        return WebDatasetPairs(
            data[0].specification.removeprefix(WEBDATASET),
            seed=given["seed"],
            size=given["pairs_an_epoch"],
            augment_image=image,
            augment_text=text,
        )
    shares = given["weights"] or [None] * len(data)
    return PhotoPairs(
        [
            PhotoSet(each.train, weight, each.classes)
            for each, weight in zip(data, shares, strict=True)
        ],
        seed=given["seed"],
        captions_a_photo=given["captions_a_photo"],
        balance=given["balance"],
        augment_image=image,
        augment_text=text,
        variants=_variants(given),
    )


def _variants(given: Mapping[str, Any]) -> int | None:
    """Return the number of variants of each image: few where outputs of layers are kept of each."""
    chosen: int | None = given["variants"]
    if chosen is None and given["frozen_cache_gb"] and given["mode"] in {"linear", "partial"}:
        return min(_KEPT_VARIANTS, int(given["epochs"]))
    return chosen
