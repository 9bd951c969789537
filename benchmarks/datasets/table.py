"""Build a dataset from a table with a column of images and a column of texts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from benchmarks.datasets.annotations import choose_split, image_folder, in_split, only_language
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, safe_id, text_id
from benchmarks.datasets.builder import DatasetBuilder
from retrieval.errors import UsageError

IMAGE_NAMES = ("image", "file", "file_name", "filename", "path")
TEXT_NAMES = ("text", "caption", "captions")


class ColumnNames(TypedDict, total=False):
    """Names of columns, as options of the formats that are tables.

    image: of image files, else the first of `IMAGE_NAMES`. text: of texts, else of `TEXT_NAMES`.
    text_ids: of text ids; rows of one id are one text of several images. splits: else `split`
    where there is one. classes: images of one class are relevant to each other (i2i).
    """

    image: str | None
    text: str | None
    text_ids: str | None
    splits: str | None
    classes: str | None


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; ids, splits and classes are optional."""

    image: str
    text: str
    text_id: str | None
    split: str | None
    image_class: str | None

    @property
    def used(self) -> list[str]:
        """Distinct names of the columns in use."""
        named = [self.image, self.text, self.text_id, self.split, self.image_class]
        return list(dict.fromkeys(name for name in named if name))


@dataclass(frozen=True)
class TableRow:
    """A row: `where` is `file:line`; several texts if the cell is a list."""

    where: str
    image: str
    texts: Sequence[str | None]
    text_id: str | None = None
    split: str | None = None
    image_class: str | None = None

    @classmethod
    def of(
        cls,
        where: str,
        image: str,
        texts: Sequence[str | None],
        cells: Mapping[str, object],
        columns: Columns,
    ) -> "TableRow":
        """Make a row of its image and texts, and the other columns of its cells."""
        others = [
            None if name is None else "" if cells[name] is None else str(cells[name]).strip()
            for name in (columns.text_id, columns.split, columns.image_class)
        ]
        return cls(where, image, texts, *others)


def choose_columns(available: Sequence[str], source: Path, given: ColumnNames) -> Columns:
    """Check the given names among all columns of a file, and choose the others.

    Raises UsageError where there is no such column.
    """
    default_image = next((name for name in IMAGE_NAMES if name in available), IMAGE_NAMES[0])
    default_text = next((name for name in TEXT_NAMES if name in available), TEXT_NAMES[0])
    columns = Columns(
        image=given.get("image") or default_image,
        text=given.get("text") or default_text,
        text_id=given.get("text_ids"),
        split=given.get("splits") or ("split" if "split" in available else None),
        image_class=given.get("classes"),
    )
    for name in columns.used:
        if name not in available:
            raise UsageError(
                f"{source} has no column '{name}'. Its columns: {', '.join(available)}. Name "
                "those to read after the path: '?image=COLUMN&text=COLUMN'."
            )
    return columns


def dataset_from_rows(
    rows: Sequence[TableRow],
    source: Path,
    *,
    split: str | None,
    language: str | None,
    images: str | None,
) -> RetrievalDataset:
    """Build a dataset from rows of which each pairs a text with an image.

    Texts are numbered per image, in the order of the rows, and are distinct, unless rows have text
    ids: rows with the same id are one text, which may describe several images.

    Args:
        rows: texts and images.
        source: the file that they were read from.
        split: which split to read, if the rows have splits.
        language: only None, since tables name no language.
        images: folder of the image files; None: beside the source.
    """
    only_language(language, None, source)
    if not rows:
        raise UsageError(f"{source} has no rows.")
    sizes = Counter({row.image: row.split for row in rows if row.split is not None}.values())
    split = choose_split(sizes, split, source)
    rows = [row for row in rows if in_split(row.split, split)]
    folder = image_folder(
        images,
        [source.parent, source.parent / "images"],
        list(dict.fromkeys(row.image for row in rows if row.image)) or ["image"],
        "Names of images are read relative to the table's folder or to images/ beside it.",
    )
    builder = DatasetBuilder(source.stem, split)
    numbers: Counter[str] = Counter()
    for row in rows:
        if not row.image:
            builder.report(ProblemKind.MISSING_IMAGE, row.where, "names no image: left out")
            continue
        image = builder.add_image(row.image, folder / row.image)
        _add_class(builder, image, row)
        for words in row.texts:
            if row.text_id is None:
                identifier = text_id(image, numbers[image])
                numbers[image] += 1
                builder.add_caption(identifier, words, image, row.where)
            else:
                _add_shared_text(builder, image, row, words)
    return builder.build()


def _add_class(builder: DatasetBuilder, image: str, row: TableRow) -> None:
    if not row.image_class:
        return
    named = safe_id(row.image_class)
    if builder.classes.setdefault(image, named) != named:
        builder.report(
            ProblemKind.DUPLICATE_ID,
            row.where,
            f"{image} is of class {builder.classes[image]} already: {named} left out",
        )


def _add_shared_text(builder: DatasetBuilder, image: str, row: TableRow, words: str | None) -> None:
    if not row.text_id:
        builder.report(ProblemKind.UNKNOWN_ID, row.where, "the text has no id: left out")
        return
    identifier = safe_id(row.text_id)
    same = builder.texts.get(identifier) == (words or "").strip()
    if same and (identifier, image) not in builder.captions:
        builder.captions[identifier, image] = None
    else:
        builder.add_caption(identifier, words, image, row.where)
