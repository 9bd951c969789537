"""BLEU and CIDEr of captions, by pycocoevalcap, whose figures the literature reports.

    score_captions({"1.jpg": "a dog runs"}, {"1.jpg": ["A dog is running .", "The dog runs ."]})

Texts are split into lower-case tokens without punctuation first. The official evaluation of COCO
does so with the Penn Treebank tokenizer, a program in Java: `ptb`. `13a` is sacrebleu's, which
needs no Java; on the English captions of Flickr8k val both give the same figures to within 0.001.
`zh` is sacrebleu's for Chinese, a token a character.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retrieval.errors import UsageError

TOKENIZERS = ("13a", "zh", "ptb")

_SIGNS = "'' ' `` ` ( ) [ ] { } . ? ! , : - -- ... ; \" 。 \uff0c \uff01 \uff1f \uff1b \uff1a 、"
_PUNCTUATION = frozenset(_SIGNS.split())
"""Tokens that are dropped: those of the official evaluation, and their Chinese counterparts."""

Captions = Mapping[str, str]
References = Mapping[str, Sequence[str]]


def score_captions(
    captions: Captions, references: References, tokenizer: str = "13a"
) -> dict[str, float]:
    """Compute BLEU-1 to BLEU-4 (Papineni et al. 2002) and CIDEr (Vedantam et al. 2015).

    BLEU is that of the corpus, with the closest reference length, 0 to 1. CIDEr is a mean over the
    images, 0 to 10; it weighs words by the images of these references that have them, so it depends
    on the set, and is 0 for one image alone.

    Args:
        captions: A caption for each image, by id; it may be empty.
        references: At least one text of a person for each of the images.
        tokenizer: `13a`, `zh` or `ptb`.

    Returns:
        `bleu_1` to `bleu_4` and `cider`.

    Raises:
        UsageError: No captions, other ids on both sides, an unknown tokenizer, a missing package.
    """
    if not captions or captions.keys() != references.keys() or not all(references.values()):
        raise UsageError("Captions are scored against at least one reference for each image.")
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
    except ImportError as error:
        raise _missing("pycocoevalcap") from error
    split = _splitter(tokenizer)
    ids = sorted(captions)
    # All at once, since each call of the Java tokenizer starts a process.
    tokens = iter(split([text for one in ids for text in (captions[one], *references[one])]))
    written = {}
    said = {}
    for one in ids:
        written[one] = [next(tokens)]
        said[one] = [next(tokens) for _ in references[one]]
    bleu, _ = Bleu(4).compute_score(said, written, verbose=0)
    cider, _ = Cider().compute_score(said, written)
    return {f"bleu_{n}": float(value) for n, value in enumerate(bleu, 1)} | {"cider": float(cider)}


def score_people(references: References, tokenizer: str = "13a") -> dict[str, float]:
    """Score people against people: one text of each image against its others, in turn.

    The means over the places of the texts. Raises UsageError for an image with one text only.
    """
    count = min(map(len, references.values()), default=0)
    if count < 2:
        raise UsageError("People are compared by at least two texts for each image.")
    rounds = [
        score_captions(
            {one: texts[place] for one, texts in references.items()},
            {one: [*texts[:place], *texts[place + 1 :]] for one, texts in references.items()},
            tokenizer,
        )
        for place in range(count)
    ]
    return {name: sum(one[name] for one in rounds) / count for name in rounds[0]}


def require_tokenizer(name: str) -> None:
    """Raise UsageError for an unknown tokenizer, and one whose package is missing."""
    _splitter(name)


def _splitter(name: str) -> Callable[[Sequence[str]], list[str]]:
    """Return what makes lower-case tokens, joined by blanks, of texts."""
    if name not in TOKENIZERS:
        raise UsageError(f"There is no tokenizer {name!r}. There are: {', '.join(TOKENIZERS)}.")
    if name == "ptb":
        if shutil.which("java") is None:
            raise UsageError("The tokenizer ptb needs Java. The tokenizer 13a does not.")
        return _penn_treebank
    tokenizer: Any
    try:
        if name == "zh":
            from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

            tokenizer = TokenizerZh()
        else:
            from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

            tokenizer = Tokenizer13a()
    except ImportError as error:
        raise _missing("sacrebleu") from error
    return lambda texts: [_without_punctuation(tokenizer(text.lower())) for text in texts]


def _penn_treebank(texts: Sequence[str]) -> list[str]:
    try:
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    except ImportError as error:
        raise _missing("pycocoevalcap") from error
    # An empty line would be lost.
    lines = {place: [{"caption": text}] for place, text in enumerate(texts) if text.strip()}
    tokens = PTBTokenizer().tokenize(lines) if lines else {}
    return [tokens[place][0] if place in tokens else "" for place in range(len(texts))]


def _without_punctuation(tokens: str) -> str:
    return " ".join(token for token in tokens.split() if token not in _PUNCTUATION)


def _missing(package: str) -> UsageError:
    return UsageError(f"Scores of captions need {package}: `pip install {package}`.")
