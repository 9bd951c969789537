"""Build a dataset entry by entry, and report its problems."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.datasets.base import Problem, ProblemKind, Qrels, RetrievalDataset, safe_id
from retrieval.errors import NotFoundError


@dataclass
class DatasetBuilder:
    """Common part of all formats: ids, empty and duplicate entries, missing files.

    `where` in the methods is the position of an entry: `captions.jsonl:12`.
    """

    name: str
    split: str | None = None
    language: str | None = None
    images: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    captions: dict[tuple[str, str], None] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    query_texts: dict[str, str] = field(default_factory=dict)
    relevance: Qrels = field(default_factory=dict)
    judgments: dict[str, Qrels] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, kind: ProblemKind, where: str, detail: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, where, detail))

    def add_image(self, name: str, path: Path) -> str:
        """Add an image with an id made of its name; returns the id. An existing path stays."""
        image = safe_id(name)
        self.images.setdefault(image, path)
        return image

    def add_text(self, identifier: str, words: str | None, where: str) -> bool:
        """Add a text, or report that it is empty or its id exists; returns whether it was added."""
        cleaned = self.cleaned(words, identifier, where)
        if cleaned is None:
            return False
        if identifier in self.texts:
            same = "the same text" if self.texts[identifier] == cleaned else "another text"
            self.report(
                ProblemKind.DUPLICATE_ID, where, f"{identifier} again, with {same}: left out"
            )
            return False
        self.texts[identifier] = cleaned
        return True

    def add_caption(self, identifier: str, words: str | None, image: str, where: str) -> bool:
        """Add a text that describes an image; returns whether it was added.

        Args:
            identifier: the id of the text.
            words: the text; if `cleaned` rejects it, nothing is added.
            image: the id of the image.
            where: the place in the file, for reports.
        """
        is_new = self.add_text(identifier, words, where)
        if is_new:
            self.captions[identifier, image] = None
        return is_new

    def cleaned(self, words: str | None, identifier: str, where: str) -> str | None:
        """Strip and repair a text; returns None, and reports it, if it is empty."""
        stripped = (words or "").strip()
        if not stripped:
            self.report(ProblemKind.EMPTY_TEXT, where, f"{identifier}: left out")
            return None
        # Tokenizers refuse lone surrogates, which JSON can spell as \ud800.
        encodable = stripped.encode("utf-8", errors="replace").decode("utf-8")
        if encodable != stripped:
            self.report(
                ProblemKind.BROKEN_TEXT, where, f"{identifier}: read with '?' in their place"
            )
        return encodable

    def build(self, *, fetch_hint: str = "") -> RetrievalDataset:
        """Build the dataset, without images whose file is missing and their texts.

        Raises NotFoundError, with `fetch_hint` at its end, if all image files are missing.
        """
        described = {image for _, image in self.captions}
        for image in self.images if not self.relevance else ():
            if image not in described:
                self.report(
                    ProblemKind.IMAGE_WITHOUT_TEXT, image, "stays among the images to be found"
                )
        dataset = RetrievalDataset(
            **vars(self) | {"captions": tuple(self.captions), "problems": tuple(self.problems)}
        )
        missing = {
            image: f"{path} does not exist"
            for image, path in self.images.items()
            if not is_file(path)
        }
        if missing and len(missing) == len(self.images):
            raise NotFoundError(
                f"None of the {len(missing)} images of {self.name} exists, such as "
                f"{next(iter(self.images.values()))}. {fetch_hint}".rstrip()
            )
        return dataset.without_images(missing, ProblemKind.MISSING_IMAGE)


def is_file(path: Path) -> bool:
    """Return whether a file exists; False also for names that the file system does not support."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
