"""Photos and captions to train on, from any dataset that the benchmarks read."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from benchmarks.datasets import RetrievalDataset, languages_of, load_dataset, safe_id, splits_of
from retrieval.errors import UsageError
from retrieval.files import write_atomically
from retrieval.training.captions import CaptionedPhoto

WEBDATASET = "webdataset:"
"""Begins the names of datasets that are streamed from tar files."""

VALIDATION_SHARE = 0.1
"""Share of the photos of a dataset without splits that are for validation."""

_ALL_LANGUAGES = "all"
_VALIDATION = ("validation", "valid", "dev")
_UNNAMED = "en"


@dataclass(frozen=True)
class TrainingData:
    """A dataset, divided for a training run.

    specification: as for `load_dataset`. name: its own. languages: of the captions, empty where the
    format names none. classes: of each photo to train on; empty where there are none.
    test: photos of a split that is called so, which nothing is trained or chosen on.
    is_divided: whether the photos for validation are drawn from those to train on. problems: of the
    entries.
    """

    specification: str
    name: str
    train: tuple[CaptionedPhoto, ...]
    validation: tuple[CaptionedPhoto, ...]
    test: tuple[CaptionedPhoto, ...]
    classes: tuple[str, ...]
    languages: tuple[str, ...]
    is_divided: bool
    problems: int

    @property
    def digest(self) -> str:
        """SHA-256 of the names of the photos and their captions, in hexadecimal."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            for photo in part:
                digest.update(json.dumps([photo.path.name, photo.captions]).encode())
            digest.update(b"\n")
        return digest.hexdigest()


@dataclass(frozen=True)
class _Split:
    """Captioned photos of splits, and the class of each by its path."""

    photos: tuple[CaptionedPhoto, ...]
    classes: dict[Path, str]
    languages: tuple[str, ...]
    problems: int
    name: str


def load_training_data(
    specification: str,
    languages: Sequence[str] = (),
    captions: Sequence[Path] = (),
    seed: int = 0,
    *,
    has_validation: bool = True,
) -> TrainingData:
    """Load the photos with captions of a dataset, to train on and to validate on.

    Splits that begin with `train`, and `restval`, are to train on; those that begin with `val`, and
    `validation` or `dev`, to validate on. Where the second are missing, a tenth of the photos is
    drawn by the seed. Other splits are never used.

    Args:
        specification: `FORMAT:PATH`, as for `load_dataset`.
        languages: of the captions, or `all`. (default: the dataset's default)
        captions: files of further captions, for the format jsonl.
        seed: of the division.
        has_validation: whether photos are to be validated on, too.

    Raises:
        NotFoundError: a file is missing.
        UsageError: the dataset cannot be read, has no photos with captions in a language, or too
            few of them.
    """
    splits = splits_of(specification)
    first = [name for name in splits if name.startswith("train") or name == "restval"]
    second = [name for name in splits if name.startswith("val") or name in _VALIDATION]
    if splits and not first:
        raise UsageError(
            f"{specification} has no split to train on, whose name would begin with 'train'. "
            f"There are: {', '.join(splits)}."
        )
    train = _load(specification, first or [None], languages, captions)
    test = [name for name in splits if name.startswith("test")]
    tested = _load(specification, test, languages, captions).photos if test else ()
    validation: tuple[CaptionedPhoto, ...] = ()
    kept = train.photos
    if has_validation and second:
        validation = _load(specification, second, languages, captions).photos
    elif has_validation:
        validation, kept = _divide(train.photos, seed, specification)
    # A dataset can name a photo in several of its splits.
    elsewhere = {photo.path for photo in (*validation, *tested)}
    photos = tuple(photo for photo in kept if photo.path not in elsewhere)
    if len(photos) < 2 or (has_validation and len(validation) < 2):
        raise UsageError(
            f"{specification} has {len(photos):,} photos with captions to train on and "
            f"{len(validation):,} for validation; there must be two of each."
        )
    classes = tuple(train.classes[photo.path] for photo in photos if photo.path in train.classes)
    return TrainingData(
        specification=specification,
        name=train.name,
        train=photos,
        validation=validation,
        test=tested,
        classes=classes if len(classes) == len(photos) else (),
        languages=train.languages,
        is_divided=has_validation and not second,
        problems=train.problems,
    )


def load_validation(specification: str) -> tuple[CaptionedPhoto, ...]:
    """Load the photos of another dataset for validation: as `load_other` chooses them."""
    dataset = load_other(specification, order=("val", "dev", "test"))
    return tuple(CaptionedPhoto(path, tuple(texts)) for path, texts in _captions(dataset).items())


def streamed_data(specification: str) -> TrainingData:
    """Describe shards, whose photos are not known before they are read."""
    name = Path(specification.removeprefix(WEBDATASET)).name
    return TrainingData(specification, name, (), (), (), (), (), is_divided=False, problems=0)


def to_measure(
    photos: Sequence[CaptionedPhoto], name: str, specification: str, languages: Sequence[str] = ()
) -> RetrievalDataset:
    """Make a dataset of photos, to be measured as `mmsearch bench retrieval` measures one."""
    images = {safe_id(str(photo.path)): photo.path for photo in photos}
    texts = {
        f"{safe_id(str(photo.path))}#{number}": caption
        for photo in photos
        for number, caption in enumerate(photo.captions)
    }
    return RetrievalDataset(
        name=name,
        split="val",
        language=",".join(languages) or None,
        images=images,
        texts=texts,
        captions=tuple((text, text.rpartition("#")[0]) for text in texts),
        specification=specification,
    )


def load_other(
    specification: str, *, order: Sequence[str] = ("test", "val", "dev")
) -> RetrievalDataset:
    """Load a second dataset to measure on: its first split in an order, else all of it.

    Raises as `load_dataset`; UsageError where there is nothing to measure.
    """
    splits = splits_of(specification)
    chosen = next((name for start in order for name in splits if name.startswith(start)), None)
    dataset = load_dataset(specification, split=chosen or ("all" if len(splits) > 1 else None))
    if not {"t2i", "i2t"} <= set(dataset.directions):
        raise UsageError(f"{specification} has no images with captions to measure on.")
    return dataset


def write_as_captions(data: TrainingData, folder: Path) -> Path:
    """Write photos and captions in the form that the other trainers read; returns the folder.

    `captions.jsonl` names the photos by their absolute paths, so that none is copied.
    """
    lines = []
    for split, photos in (("train", data.train), ("val", data.validation)):
        for photo in photos:
            by_language: dict[str, list[str]] = {}
            languages = photo.languages or (_UNNAMED,) * len(photo.captions)
            for language, caption in zip(languages, photo.captions, strict=True):
                by_language.setdefault(language, []).append(caption)
            row = {"image": str(photo.path.absolute()), "split": split, **by_language}
            lines.append(json.dumps(row, ensure_ascii=False))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    write_atomically(folder / "captions.jsonl", ("\n".join(lines) + "\n").encode())
    return folder


def _load(
    specification: str,
    splits: Sequence[str | None],
    languages: Sequence[str],
    captions: Sequence[Path],
) -> _Split:
    """Load splits in some languages, and join the captions of each photo."""
    photos: dict[Path, CaptionedPhoto] = {}
    classes: dict[Path, str] = {}
    found: dict[str, None] = {}
    problems, name = 0, ""
    for split in splits:
        asked: Sequence[str | None] = languages or (None,)
        if _ALL_LANGUAGES in languages:
            asked = languages_of(specification, split, captions)
        for language in dict.fromkeys(asked):
            dataset = load_dataset(specification, split, language, extra=captions)
            _require_captions(dataset)
            problems, name = problems + len(dataset.problems), dataset.name
            told = dataset.language or _UNNAMED
            if dataset.language:
                found[told] = None
            for path, texts in _captions(dataset).items():
                before = photos.get(path, CaptionedPhoto(path, ()))
                new = tuple(text for text in texts if text not in before.captions)
                photos[path] = replace(
                    before,
                    captions=before.captions + new,
                    languages=before.languages + (told,) * len(new),
                )
            classes |= {dataset.images[image]: kind for image, kind in dataset.classes.items()}
    return _Split(tuple(photos.values()), classes, tuple(found), problems, name)


def _require_captions(dataset: RetrievalDataset) -> None:
    if not dataset.images or not (dataset.captions or dataset.relevance):
        raise UsageError(
            f"{dataset.specification} has no images with captions, which an encoder of images and "
            "texts is trained on."
        )


def _captions(dataset: RetrievalDataset) -> dict[Path, list[str]]:
    """List the texts of each image that has any; of collections with queries, its queries."""
    pairs = [(dataset.images[image], dataset.texts[text]) for text, image in dataset.captions]
    if dataset.query_texts and "t2i" in dataset.directions:
        pairs += [
            (dataset.images[image], dataset.query_texts[query])
            for query, images in dataset.qrels("t2i").items()
            for image in images
            if query in dataset.query_texts
        ]
    found: dict[Path, list[str]] = {}
    for path, text in pairs:
        found.setdefault(path, []).append(text)
    return found


def _divide(
    photos: Sequence[CaptionedPhoto], seed: int, specification: str
) -> tuple[tuple[CaptionedPhoto, ...], tuple[CaptionedPhoto, ...]]:
    """Divide photos into those for validation, a tenth and at least two, and the others.

    By hashes of their names, so that a photo stays on its side as others are added.
    """
    if len(photos) < 4:
        raise UsageError(
            f"{specification} has {len(photos):,} photos with captions. At least four are needed: "
            "two to train on, and two for validation."
        )

    def place(photo: CaptionedPhoto) -> int:
        name = f"{seed}/{photo.path.name}".encode(errors="surrogatepass")
        return xxhash.xxh3_64_intdigest(name)

    order = sorted(photos, key=place)
    count = max(2, round(VALIDATION_SHARE * len(photos)))
    chosen = {photo.path for photo in order[:count]}
    return (
        tuple(photo for photo in photos if photo.path in chosen),
        tuple(photo for photo in photos if photo.path not in chosen),
    )
