"""The JSON of Karpathy and Fei-Fei (CVPR 2015) for Flickr8k, Flickr30k and COCO."""

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.datasets.annotations import (
    annotation_file,
    choose_split,
    image_folder,
    in_split,
    only_language,
    read_json,
)
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, text_id
from benchmarks.datasets.builder import DatasetBuilder, is_file
from benchmarks.datasets.coco_judgments import add_judgments
from retrieval.errors import UsageError

_FETCH = (
    "The splits (dataset_flickr8k.json, dataset_flickr30k.json, dataset_coco.json in "
    "caption_datasets.zip) are at https://cs.stanford.edu/people/karpathy/deepimagesent/; the "
    "images are fetched apart and go into a folder beside the JSON file: COCO's train2014/ and "
    "val2014/ from https://cocodataset.org/#download, flickr30k-images/ by request at "
    "https://shannon.cs.illinois.edu/DenotationGraph/, Flicker8k_Dataset/ by request at "
    "https://hockenmaier.cs.illinois.edu/8k-pictures.html."
)
_FOLDERS = (
    "images",
    ".",
    "flickr30k-images",
    "flickr30k_images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
)


def load_karpathy(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    images: str | None = None,
    judgments: str | None = None,
    threshold: str | None = None,
) -> RetrievalDataset:
    """Read `dataset_*.json`, or the folder that holds one: splits train, val, test and restval.

    Without `split`, `test`: the 1,000 images of Flickr and the 5,000 of COCO that papers report.
    Images may lie in their `filepath` sub-folder, as COCO has them, or all in one folder.
    Captions are numbered in the order of an image's sentences, English. Of COCO, with `judgments`
    (and `threshold`), relevant is what their files say, as of `add_judgments`.

    Raises:
        NotFoundError: The file or all images are missing.
        UsageError: Malformed file, or unknown split or language.
    """
    source = annotation_file(path, ["dataset_*.json"], _FETCH)
    language = only_language(language, "en", source)
    content = read_json(source)
    entries = _checked(content, source)
    split = choose_split(Counter(entry["split"] for entry in entries), split, source)
    chosen = [
        (f"{source.name}: images[{position}]", entry)
        for position, entry in enumerate(entries)
        if in_split(entry["split"], split)
    ]
    in_sub_folders = [str(Path(e.get("filepath", ""), e["filename"])) for _, e in chosen]
    in_one_folder = [e["filename"] for _, e in chosen]
    folder = image_folder(
        images,
        [source.parent / name for name in _FOLDERS],
        [name for pair in zip(in_sub_folders, in_one_folder, strict=True) for name in pair],
        _FETCH,
    )
    name = content.get("dataset")
    builder = DatasetBuilder(name if isinstance(name, str) else source.stem, split, language)
    image_ids: dict[int, str] = {}
    text_ids: dict[int, str] = {}
    for (where, entry), sub_path in zip(chosen, in_sub_folders, strict=True):
        places = [folder / sub_path, folder / entry["filename"]]
        known = len(builder.images)
        image = builder.add_image(entry["filename"], next(filter(is_file, places), places[0]))
        if len(builder.images) == known:
            builder.report(ProblemKind.DUPLICATE_ID, where, f"{image} again: entry left out")
            continue
        image_ids[entry.get("cocoid", -1)] = image
        for number, sentence in enumerate(entry["sentences"]):
            identifier = text_id(image, number)
            if builder.add_caption(identifier, sentence["raw"], image, where):
                text_ids[sentence.get("sentid", -1)] = identifier
    add_judgments(builder, judgments, threshold, image_ids, text_ids)
    return builder.build(fetch_hint=_FETCH)


def _checked(content: dict[str, Any], source: Path) -> list[dict[str, Any]]:
    entries = content.get("images")
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{source}: no list 'images'. Is this Karpathy's form? {_FETCH}")
    for position, entry in enumerate(entries):
        if not _is_entry(entry):
            raise UsageError(
                f"{source}: images[{position}]: expected an object with 'filename', 'split' and "
                "'sentences', each with its 'raw' text."
            )
    return entries


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("filename"), str)
        and bool(entry["filename"])
        and isinstance(entry.get("filepath", ""), str)
        and isinstance(entry.get("split"), str)
        and isinstance(entry.get("cocoid", 0), int)
        and isinstance(entry.get("sentences"), list)
        and all(
            isinstance(sentence, dict)
            and isinstance(sentence.get("raw"), str)
            and isinstance(sentence.get("sentid", 0), int)
            for sentence in entry["sentences"]
        )
    )
