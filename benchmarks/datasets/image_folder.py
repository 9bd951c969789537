"""Folder with one sub-folder of images per class, and a prompt per class."""

from collections import defaultdict
from pathlib import Path

from benchmarks.datasets.annotations import choose_split, numbered_lines, only_language, read_text
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, safe_id
from benchmarks.datasets.builder import DatasetBuilder, is_file
from retrieval.errors import NotFoundError, UsageError
from retrieval.media import MediaKind
from retrieval.media.registry import kind_of

_SPLITS = {"train", "val", "valid", "validation", "test"}


def load_image_folder(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    prompt: str = "a photo of a {name}",
    names: str | None = None,
) -> RetrievalDataset:
    """Read images from the sub-folders of a folder, at any depth: the sub-folder is the class.

    A class is one text, its prompt, which is relevant to all its images and they to each other.
    `{name}` in the prompt is the sub-folder's name with `_` as spaces, or what the file `names`
    says: a folder and its name on each line, such as `n01440764 tench, Tinca tinca`, of which the
    part before the first comma is taken. Where all sub-folders are called like splits (train, val,
    test), they are splits and the classes are below. Hidden files are passed over.

    Raises:
        NotFoundError: the folder or the file of names is missing.
        UsageError: there are no classes with images, no such split, or no `{name}` in the prompt.
    """
    only_language(language, None, path)
    if "{name}" not in prompt:
        raise UsageError(f"The prompt '{prompt}' has no {{name}} for the class.")
    if not path.is_dir():
        raise NotFoundError(
            f"{path} is not a folder. The format image-folder is a folder with one sub-folder of "
            "images a class."
        )
    split, root = _choose_root(path, split)
    class_names = _read_names(Path(names).expanduser()) if names else {}
    builder = DatasetBuilder(path.resolve().name, split)
    for folder in _sub_folders(root):
        name = class_names.get(folder.name, folder.name.replace("_", " "))
        _add_class(builder, folder, prompt.replace("{name}", name))
    for file in sorted(root.iterdir()):
        if is_file(file) and kind_of(file.name) is MediaKind.IMAGE:
            builder.report(ProblemKind.NOT_IN_A_CLASS, file.name, "left out")
    if not builder.images:
        raise UsageError(f"{root} has no sub-folder with images: each is one class.")
    _report_equal_prompts(builder)
    return builder.build()


def _add_class(builder: DatasetBuilder, folder: Path, words: str) -> None:
    members = _add_images(builder, folder)
    if not members:
        builder.report(ProblemKind.EMPTY_CLASS, f"{folder.name}/", "left out")
        return
    text = safe_id(folder.name)
    builder.add_text(text, words, f"{folder.name}/")
    for image in members:
        builder.classes[image] = text
        builder.captions[text, image] = None
    if len(members) == 1:
        builder.report(
            ProblemKind.QUERY_WITHOUT_ANSWER, members[0], "the only image of its class, for i2i"
        )


def _report_equal_prompts(builder: DatasetBuilder) -> None:
    by_words: defaultdict[str, list[str]] = defaultdict(list)
    for text, words in builder.texts.items():
        by_words[words].append(text)
    for words, texts in by_words.items():
        if len(texts) > 1:
            builder.report(
                ProblemKind.DUPLICATE_TEXT,
                texts[0],
                f"'{words}' is the prompt of {', '.join(texts)}: kept apart",
            )


def _choose_root(path: Path, split: str | None) -> tuple[str | None, Path]:
    folders = _sub_folders(path)
    splits = {folder.name: len(_sub_folders(folder)) for folder in folders}
    if not splits or not splits.keys() <= _SPLITS:
        return choose_split({}, split, path), path
    chosen = choose_split(splits, split, path)
    if chosen not in splits:
        raise UsageError(f"{path}: name one split: {', '.join(splits)}.")
    return chosen, path / chosen


def _sub_folders(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _add_images(builder: DatasetBuilder, folder: Path) -> list[str]:
    members = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder.parent).as_posix()
        if file.name.startswith(".") or file.is_dir():
            continue
        if kind_of(file.name) is MediaKind.IMAGE:
            members.append(builder.add_image(name, file))
        else:
            builder.report(ProblemKind.NOT_AN_IMAGE, name, "by its name: left out")
    return members


def _read_names(file: Path) -> dict[str, str]:
    if not is_file(file):
        raise NotFoundError(f"The file of class names {file} does not exist.")
    names = {}
    for number, line in numbered_lines(read_text(file)):
        folder, *name = line.split(maxsplit=1)
        if not name:
            raise UsageError(f"{file}:{number}: expected a folder and the name of its class.")
        names[folder] = name[0].partition(",")[0].strip()
    return names
