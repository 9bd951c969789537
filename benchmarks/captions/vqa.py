"""Accuracy of answers to questions about images, by the metric of VQA (Antol et al. 2015).

accuracy("Two dogs.", ["2 dogs", "two dogs", "2 dogs", "dogs"])  # 0.917
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import NotFoundError, UsageError

_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})
_SPELLED = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's "
    "how'd how'll how's isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've "
    "o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll "
    "someone's something'd something'll that's there'd there're there's they'd they'll they're "
    "they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's "
    "where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd "
    "you'll you're you've"
)
_CONTRACTIONS = {word.replace("'", ""): word for word in _SPELLED.split()}
"""With the apostrophe that people leave out; not where that makes another word, as in `ill`."""
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_FULL_STOP = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")

LEAST_ANSWERS = 4
"""Answers of people for a question: one left out, the others can make an answer right. VQA has ten.
"""
_ENOUGH = 3


@dataclass(frozen=True)
class Question:
    """A question about an image, and what people answered."""

    image: Path
    text: str
    answers: tuple[str, ...]


def accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """Compute the accuracy of an answer, 0 to 1: min(people who gave it / 3, 1).

    The mean over all ways to leave one person out, so that people themselves could be measured in
    the same way. All answers are normalised first.

    Raises ValueError for fewer than `LEAST_ANSWERS` answers of people.
    """
    if len(human_answers) < LEAST_ANSWERS:
        raise ValueError(f"{len(human_answers)} answers of people, not {LEAST_ANSWERS} or more")
    given = normalized(answer)
    agrees = [normalized(one) == given for one in human_answers]
    shares = [min((sum(agrees) - left_out) / _ENOUGH, 1.0) for left_out in agrees]
    return sum(shares) / len(shares)


def normalized(answer: str) -> str:
    """Normalise an answer as the official evaluation does.

    Lower case; digits for zero to ten; no articles, no full stops but in decimals; apostrophes in
    contractions. A sign of punctuation vanishes where a blank stands beside it, or anywhere in an
    answer with a number such as 1,000; else it becomes a blank.
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    has_large_number = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for sign in _PUNCTUATION:
        is_apart = f"{sign} " in text or f" {sign}" in text
        cleaned = cleaned.replace(sign, "" if is_apart or has_large_number else " ")
    words = _FULL_STOP.sub("", cleaned).lower().split()
    numbered = [_NUMBERS.get(word, word) for word in words]
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbered if word not in _ARTICLES)


def load_questions(
    file: Path, annotations: Path | None = None, images: Path | None = None
) -> list[Question]:
    """Load questions with the answers of people.

    Args:
        file: JSON lines, {"image": "dogs.jpg", "question": "...", "answers": ["2", ...]}; or the
            questions of VQA, as its JSON file has them.
        annotations: The answers to these, as the JSON file of VQA has them.
        images: Folder of the images. (default: that of the file)

    Raises:
        NotFoundError: A file is missing.
        UsageError: A malformed file, with the line or question; too few answers of people.
    """
    folder = images or file.parent
    if annotations is None:
        return [
            _question(record, f"{file}:{number}", folder)
            for number, line in enumerate(_read(file).splitlines(), 1)
            if line.strip()
            for record in [_object(line, f"{file}:{number}")]
        ]
    asked = _object(_read(file), str(file))
    answered = _object(_read(annotations), str(annotations))
    people = {
        one.get("question_id"): [given.get("answer") for given in one.get("answers", ())]
        for one in answered.get("annotations", ())
    }
    subtype = asked.get("data_subtype", "val2014")
    return [
        _question(
            {
                "image": f"COCO_{subtype}_{int(one['image_id']):012d}.jpg",
                "question": one.get("question"),
                "answers": people.get(one.get("question_id")),
            },
            f"{file}, question {one.get('question_id')}",
            folder,
        )
        for one in asked.get("questions", ())
    ]


def _question(record: Mapping[str, Any], where: str, folder: Path) -> Question:
    image, text, answers = (record.get(name) for name in ("image", "question", "answers"))
    if (
        not isinstance(image, str)
        or not isinstance(text, str)
        or not isinstance(answers, list)
        or not all(isinstance(one, str) for one in answers)
    ):
        raise UsageError(
            f'{where}: expected {{"image": FILE, "question": TEXT, "answers": [TEXT, ...]}}.'
        )
    if len(answers) < LEAST_ANSWERS:
        raise UsageError(
            f"{where}: {len(answers)} answers of people; the metric needs {LEAST_ANSWERS} or more, "
            "and VQA has ten."
        )
    return Question(folder / image, text, tuple(answers))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {file}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}: expected an object.")
    return found
