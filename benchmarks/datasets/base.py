"""Retrieval datasets: images, texts, and relevance judgements."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import xxhash

from retrieval.errors import NotFoundError, UsageError

Direction = Literal["t2i", "i2t", "i2i", "t2t"]
"""Modality of queries and items: `t2i` is text to image."""

DIRECTIONS: tuple[Direction, ...] = ("t2i", "i2t", "i2i", "t2t")

Qrels = dict[str, dict[str, int]]
"""`{query_id: {item_id: gain}}`, gains above 0, no query without an item, as in BEIR."""


class ProblemKind(StrEnum):
    """Kind of a problem with an entry of a dataset; the value is its name in reports."""

    MISSING_IMAGE = "missing image"
    UNREADABLE_IMAGE = "unreadable image"
    DUPLICATE_ID = "duplicate id"
    EMPTY_TEXT = "empty text"
    BROKEN_TEXT = "text with broken characters"
    UNKNOWN_ID = "unknown id"
    IMAGE_WITHOUT_TEXT = "image without text"
    QUERY_WITHOUT_ANSWER = "query without relevant item"
    DUPLICATE_TEXT = "text of several classes"
    EMPTY_CLASS = "class without images"
    NOT_IN_A_CLASS = "image in no class folder"
    NOT_AN_IMAGE = "file that is not an image"
    REPAIRED_LINE = "repaired line"


@dataclass(frozen=True)
class Problem:
    """A problem of a dataset: `where` is `file:line`, a position in a JSON file, or an id."""

    kind: ProblemKind
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.detail}"


def safe_id(name: str) -> str:
    """Convert a name to an id without whitespace, `#` or `%`, since TREC files split at whitespace.

    Percent-encoding of the UTF-8 form (RFC 3986), `/` kept: `my cat.jpg` becomes `my%20cat.jpg`.
    `unquote(identifier, errors="surrogatepass")` is the inverse for every string, lone surrogates
    (how Python names files that are not UTF-8) included. Raises ValueError for an empty string.
    """
    if not name:
        raise ValueError("an id cannot be empty")
    return quote(name, safe="/", errors="surrogatepass")


def text_id(image_id: str, number: int | str) -> str:
    """Build the id of an image's text: `cat.jpg#0`. The id of the image precedes the last `#`."""
    return f"{image_id}#{number}"


@dataclass(frozen=True)
class RetrievalDataset:
    """Images and texts with their ids, and relevance judgements.

    Ids contain no whitespace (`safe_id`); images and texts have separate name spaces.

    `captions` pairs texts with images they describe: a text may describe several images and an
    image may have several texts. `classes` has the class of each image, if there are classes.
    `judgments` are qrels by direction in place of all others. `query_texts` and `relevance` are the
    queries of collections that have them apart (BEIR, ViDoRe), and their gains over `images` where
    there are any, else over `texts`. `problems` lists every entry that was excluded or changed, and
    images without texts, which remain as distractors. `specification` is the argument of
    `load_dataset`.
    """

    name: str
    split: str | None
    language: str | None
    images: dict[str, Path]
    texts: dict[str, str]
    captions: tuple[tuple[str, str], ...] = ()
    classes: dict[str, str] = field(default_factory=dict)
    query_texts: dict[str, str] = field(default_factory=dict)
    relevance: Qrels = field(default_factory=dict)
    judgments: dict[str, Qrels] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    specification: str = ""

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions with relevance judgements."""
        if self.judgments:
            return tuple(direction for direction in DIRECTIONS if self.judgments.get(direction))
        images_with_text = Counter(image for _, image in self.captions)
        defined: dict[Direction, bool] = {
            "t2i": bool(self.captions) or self._has_separate_queries("t2i"),
            "i2t": bool(self.captions),
            "i2i": any(count > 1 for count in Counter(self.classes.values()).values()),
            "t2t": self._has_separate_queries("t2t")
            or any(count > 1 for count in images_with_text.values()),
        }
        return tuple(direction for direction in DIRECTIONS if defined[direction])

    def qrels(self, direction: str) -> Qrels:
        """Return the relevant items of each query of a direction.

        Those of `judgments`, if there are any. Else, of t2i and i2t the pairs of `captions`, of i2i
        the other images of the same class, of t2t the other texts of the same image, and of t2i or
        t2t the gains of the dataset if it has separate queries for images or texts.
        Queries without relevant items have no entry.

        In i2i and t2t, exclude the item with the id of the query from the ranking, as BEIR does.

        Raises UsageError if the direction is not defined for this dataset.
        """
        self._require(direction)
        if self.judgments:
            return {query: dict(gains) for query, gains in self.judgments[direction].items()}
        if self._has_separate_queries(direction):
            return {query: dict(gains) for query, gains in self.relevance.items()}
        match direction:
            case "t2i":
                return _grouped(self.captions)
            case "i2t":
                return _grouped((image, text) for text, image in self.captions)
            case "i2i":
                return _companions((name, image) for image, name in self.classes.items())
            case _:
                return _companions((image, text) for text, image in self.captions)

    def queries(self, direction: str) -> dict[str, str] | dict[str, Path]:
        """Return the queries of a direction by id, in the order of `qrels`: texts or files."""
        asked = self.qrels(direction)
        if direction.startswith("i"):
            return {query: self.images[query] for query in asked}
        texts = self.query_texts if self._has_separate_queries(direction) else self.texts
        return {query: texts[query] for query in asked}

    def _has_separate_queries(self, direction: str) -> bool:
        return bool(self.relevance) and direction == ("t2i" if self.images else "t2t")

    def items(self, direction: str) -> dict[str, str] | dict[str, Path]:
        """Return all items of a direction by id."""
        self._require(direction)
        return dict(self.images) if direction.endswith("i") else dict(self.texts)

    @property
    def problem_counts(self) -> dict[str, int]:
        """Number of problems of each kind, the most frequent first."""
        return {str(kind): n for kind, n in Counter(p.kind for p in self.problems).most_common()}

    def fingerprint(self) -> str:
        """Hash the ids, the texts, the relevance judgements, and the sizes of the image files.

        128 bits in hexadecimal (XXH3), independent of the location and order of the files: equal
        fingerprints on two machines mean the same benchmark, unless images were replaced by others
        of the same size.
        """
        digest = xxhash.xxh3_128()
        judged = [
            (direction, query, item, str(gain))
            for direction, qrels in self.judgments.items()
            for query, gains in qrels.items()
            for item, gain in gains.items()
        ]
        sections: list[Iterable[tuple[str, ...]]] = [
            ((image, str(_size(path))) for image, path in self.images.items()),
            self.texts.items(),
            self.captions,
            self.classes.items(),
            self.query_texts.items(),
            (
                (q, item, str(gain))
                for q, gains in self.relevance.items()
                for item, gain in gains.items()
            ),
            *([judged] if judged else []),
        ]
        for section in sections:
            digest.update(b"\x1d")
            for entry in sorted(section):
                for part in entry:
                    encoded = part.encode("utf-8", errors="surrogatepass")
                    # Lengths keep ("ab", "c") apart from ("a", "bc").
                    digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return digest.hexdigest()

    def without_images(
        self, reasons: Mapping[str, str], kind: ProblemKind = ProblemKind.UNREADABLE_IMAGE
    ) -> "RetrievalDataset":
        """Exclude images, each for a reason, and the texts that describe only those.

        Used for images that prove unreadable during encoding, so that they are not decoded twice.
        Raises UsageError if no image is left.
        """
        if not reasons:
            return self
        kept = self._restricted_to(self.images.keys() - reasons.keys())
        if not kept.images:
            image, reason = next(iter(reasons.items()))
            raise UsageError(
                f"None of the {len(reasons)} images of {self.name} can be used. "
                f"The first: {self.images[image]}: {reason}"
            )
        lost = Counter(image for text, image in self.captions if text not in kept.texts)
        problems = tuple(
            Problem(kind, image, f"{reason}; left out together with {lost[image]} texts")
            for image, reason in reasons.items()
        )
        return replace(kept, problems=self.problems + problems)

    def first_images(self, count: int) -> "RetrievalDataset":
        """Select the first `count` images and their texts, for a quick run."""
        if count < 1 or not self.images:
            raise UsageError(f"Cannot take the first {count} of {len(self.images)} images.")
        return self._restricted_to(set(list(self.images)[:count]))

    def first_captions(self, count: int) -> "RetrievalDataset":
        """Select the first `count` texts of each image.

        Published figures on COCO use five captions per image; some images have six or seven.
        """
        if count < 1 or not self.captions:
            raise UsageError(f"Cannot take the first {count} captions of each image.")
        seen: Counter[str] = Counter()
        kept: list[tuple[str, str]] = []
        for text, image in self.captions:
            seen[image] += 1
            if seen[image] <= count:
                kept.append((text, image))
        named = {text for text, _ in kept}
        return replace(
            self,
            captions=tuple(kept),
            texts={text: words for text, words in self.texts.items() if text in named},
            judgments=_restricted(self.judgments, self.images, named),
        )

    def _restricted_to(self, images: Collection[str]) -> "RetrievalDataset":
        captions = tuple(pair for pair in self.captions if pair[1] in images)
        orphaned = {text for text, _ in self.captions} - {text for text, _ in captions}
        relevance = self.relevance
        if self._has_separate_queries("t2i"):
            kept = (
                (query, {image: gain for image, gain in gains.items() if image in images})
                for query, gains in relevance.items()
            )
            relevance = {query: gains for query, gains in kept if gains}
        texts = {text: words for text, words in self.texts.items() if text not in orphaned}
        return replace(
            self,
            query_texts={query: self.query_texts[query] for query in relevance},
            relevance=relevance,
            images={image: path for image, path in self.images.items() if image in images},
            texts=texts,
            captions=captions,
            judgments=_restricted(self.judgments, images, texts),
            classes={image: name for image, name in self.classes.items() if image in images},
        )

    def _require(self, direction: str) -> None:
        if direction not in DIRECTIONS:
            raise UsageError(
                f"Unknown direction '{direction}'. There are: {', '.join(DIRECTIONS)}."
            )
        if direction not in self.directions:
            raise UsageError(
                f"Direction {direction} is not defined for {self.name}: nothing in it is relevant "
                f"to anything that way. It has: {', '.join(self.directions) or 'none'}."
            )


def _grouped(pairs: Iterable[tuple[str, str]]) -> Qrels:
    qrels: Qrels = {}
    for query, item in pairs:
        qrels.setdefault(query, {})[item] = 1
    return qrels


def _companions(memberships: Iterable[tuple[str, str]]) -> Qrels:
    """Map each member of (group, member) pairs to the other members of its groups."""
    qrels: Qrels = {}
    for members in _grouped(memberships).values():
        for member in members if len(members) > 1 else ():
            qrels.setdefault(member, {}).update({other: 1 for other in members if other != member})
    return qrels


def _restricted(
    judgments: Mapping[str, Qrels], images: Iterable[str], texts: Iterable[str]
) -> dict[str, Qrels]:
    """Leave out queries and items that are not among these, and queries without an item."""
    kept = {"i": set(images), "t": set(texts)}
    return {
        direction: {
            query: found
            for query, gains in qrels.items()
            if query in kept[direction[0]]
            and (found := {i: gain for i, gain in gains.items() if i in kept[direction[2]]})
        }
        for direction, qrels in judgments.items()
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise NotFoundError(f"{path} existed when the dataset was loaded: {error}") from error
