"""COCO's own `captions_*.json`: a list of images and a list of annotations (Chen et al. 2015)."""

from pathlib import Path
from typing import Any

from benchmarks.datasets.annotations import (
    SplitError,
    annotation_file,
    choose_split,
    image_folder,
    only_language,
    read_json,
)
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, text_id
from benchmarks.datasets.builder import DatasetBuilder
from retrieval.errors import UsageError

_FETCH = (
    "COCO is at https://cocodataset.org/#download: '2017 Train/Val annotations' holds "
    "annotations/captions_val2017.json, '2017 Val images' the folder val2017/; unpack both into "
    "one folder and name it."
)


def load_coco(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    images: str | None = None,
) -> RetrievalDataset:
    """Read `captions_SPLIT.json`, or the folder that holds `annotations/captions_SPLIT.json`.

    A caption's id ends in its official annotation id. Some images have six or seven captions; see
    `RetrievalDataset.first_captions`. The 5,000 images of Karpathy's test split, which papers
    report, are others than val2017: that is the format karpathy.

    Raises:
        NotFoundError: The file or all images are missing.
        UsageError: Malformed file, or unknown split or language.
    """
    source = _choose_file(path, split)
    language = only_language(language, "en", source)
    split = choose_split({_split_of(source): 1}, split, source)
    content = read_json(source)
    entries = _checked(content, "images", {"id": int, "file_name": str}, source)
    annotations = _checked(
        content, "annotations", {"id": int, "image_id": int, "caption": str}, source
    )
    if not entries:
        raise UsageError(f"{source} lists no images. {_FETCH}")
    homes = [source.parent, source.parent.parent]
    folder = image_folder(
        images,
        [home / inner for home in homes for inner in (_split_of(source), "images", ".")]
        + [home / "images" / _split_of(source) for home in homes],
        [entry["file_name"] for entry in entries],
        _FETCH,
    )
    builder = DatasetBuilder(f"coco-{_split_of(source)}", split, language)
    image_ids: dict[int, str] = {}
    for position, entry in enumerate(entries):
        where = f"{source.name}: images[{position}]"
        if entry["id"] in image_ids:
            builder.report(ProblemKind.DUPLICATE_ID, where, f"image {entry['id']}: left out")
            continue
        known = len(builder.images)
        image = builder.add_image(entry["file_name"], folder / entry["file_name"])
        image_ids[entry["id"]] = image
        if len(builder.images) == known:
            builder.report(
                ProblemKind.DUPLICATE_ID, where, f"{image} again: its captions go to the first"
            )
    for position, annotation in enumerate(annotations):
        where = f"{source.name}: annotations[{position}]"
        described = image_ids.get(annotation["image_id"])
        if described is None:
            builder.report(
                ProblemKind.UNKNOWN_ID,
                where,
                f"annotation {annotation['id']} is of image {annotation['image_id']}, which is "
                "not listed: left out",
            )
            continue
        identifier = text_id(described, annotation["id"])
        builder.add_caption(identifier, annotation["caption"], described, where)
    return builder.build(fetch_hint=_FETCH)


def _choose_file(path: Path, split: str | None) -> Path:
    if not path.is_dir():
        return annotation_file(path, [], _FETCH)
    found = sorted([*path.glob("captions_*.json"), *path.glob("annotations/captions_*.json")])
    sizes = {_split_of(file): 1 for file in found}
    if split is not None and found and split not in sizes:
        raise SplitError(f"{path} has no split '{split}'. There are: {', '.join(sizes)}.", sizes)
    if split is None and len(found) > 1:
        raise SplitError(f"{path} has several splits: {', '.join(sizes)}. Name one of them.", sizes)
    name = f"captions_{split or '*'}.json"
    return annotation_file(path, [name, f"annotations/{name}"], _FETCH)


def _split_of(source: Path) -> str:
    return source.stem.removeprefix("captions_")


def _checked(
    content: dict[str, Any], key: str, form: dict[str, type], source: Path
) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise UsageError(f"{source}: no list '{key}'. Is this COCO's captions form? {_FETCH}")
    for position, entry in enumerate(entries):
        if (
            not isinstance(entry, dict)
            or not all(isinstance(entry.get(name), kind) for name, kind in form.items())
            or entry.get("file_name") == ""
        ):
            raise UsageError(f"{source}: {key}[{position}]: expected {', '.join(form)}.")
    return entries
