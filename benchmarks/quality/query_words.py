"""Words of captions, as people would search for them: content words, their stems and kinds.

Bundled lists say which words of English, German and Chinese are scenes, activities and adjectives,
which are spellings of one word, and which imply another ("boy": "child"); other languages have stop
words alone. Stems are Snowball's; Chinese is divided into words by jieba.
"""

import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple, Self

import regex

from retrieval.errors import UsageError, import_errors_as
from retrieval.training.said_words import read_tables

_SNOWBALL = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "nb": "norwegian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
"""Stemmers of Snowball by language (ISO 639-1)."""

_UNDIVIDED = {"ja", "km", "lo", "my", "th"}
"""Languages without spaces between words, for which there is no division into words here."""

_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*(?:-\p{L}[\p{L}\p{M}]*)*")
_LISTS = ("ignored", "scenes", "activities", "adjectives", "activity_endings", "not_activities")
_NEEDS = UsageError(
    "Queries from captions need snowballstemmer, stopwordsiso and, for Chinese, jieba: "
    "pip install 'mmsearch[bench]'."
)


class Kind(StrEnum):
    """Kind of a query: four of single words, two of several, and things that are not there."""

    NOUN = "noun"
    ADJECTIVE = "adjective"
    SCENE = "scene"
    ACTIVITY = "activity"
    PHRASE = "phrase"
    CAPTION = "caption"
    ABSENT = "absent"


WORD_KINDS = (Kind.NOUN, Kind.ADJECTIVE, Kind.SCENE, Kind.ACTIVITY)


class Token(NamedTuple):
    """A word of a caption: its stem and how it stands there. stem: "" for an ignored word."""

    stem: str
    form: str


@dataclass(frozen=True)
class WordLists:
    """What is known of the words of a language, as listed in a TOML file.

    ignored: words that are no queries. scenes, activities, adjectives: words of these kinds; others
    are nouns. activity_endings: of further activities, but for not_activities. joining: words that
    a phrase may have between its two. same_as: word to the one that stands for it. implies: word to
    one that it says, too.
    """

    ignored: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    activities: tuple[str, ...] = ()
    adjectives: tuple[str, ...] = ()
    activity_endings: tuple[str, ...] = ()
    not_activities: tuple[str, ...] = ()
    joining: tuple[str, ...] = ()
    same_as: Mapping[str, str] = field(default_factory=dict)
    implies: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, where: str) -> Self:
        """Parse TOML: lists are arrays, or strings of words with white space between them.

        Raises UsageError, which names `where`, for anything else.
        """
        try:
            given = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{where} is not TOML: {error}") from error
        taken: dict[str, Any] = {}
        for name, value in given.items():
            if name in (*_LISTS, "joining"):
                words = value.split() if isinstance(value, str) else value
                if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
                    raise UsageError(f"{where}: '{name}' is not a list of words.")
                taken[name] = tuple(words)
            elif name in ("same_as", "implies"):
                if not isinstance(value, dict) or not _are_words(value):
                    raise UsageError(f"{where}: '{name}' is not a table from word to word.")
                taken[name] = value
            else:
                known = ", ".join(cls.__dataclass_fields__)
                raise UsageError(f"{where}: unknown key '{name}'. There are: {known}.")
        return cls(**taken)

    @classmethod
    def of_language(cls, language: str) -> Self:
        """Return the bundled lists of a language, else stop words alone.

        Raises UsageError if there are none.
        """
        bundled = files(__package__).joinpath(f"query_words.{language}.toml")
        if bundled.is_file():
            lists = cls.read(bundled.read_text(encoding="utf-8"), bundled.name)
            said = read_tables(language)
            return replace(
                lists,
                same_as=said.get("same_as", lists.same_as),
                implies=said.get("implies", lists.implies),
            )
        with import_errors_as(_NEEDS):
            import stopwordsiso
        if not stopwordsiso.has_lang(language):
            raise UsageError(
                f"There are no stop words for the language '{language}'. Give word lists of your "
                "own with --words FILE."
            )
        return cls(ignored=tuple(sorted(stopwordsiso.stopwords(language))))


class QueryWords:
    """Finds the content words of captions in one language, and says of which kind they are."""

    def __init__(self, language: str, lists: WordLists | None = None) -> None:
        self.language = base_language(language)
        if self.language in _UNDIVIDED:
            raise UsageError(
                f"Captions in '{self.language}' cannot be divided into words. Languages with "
                "spaces between words, and Chinese, can."
            )
        self.separator = "" if self.language == "zh" else " "
        lists = lists or WordLists.of_language(self.language)
        self._divide = _chinese_divider() if self.language == "zh" else _divide
        self._snowball = _snowball(self.language)
        self._same_as = dict(lists.same_as)
        self._ignored_forms = set(lists.ignored)
        self._ignored = self._stems(lists.ignored)
        self._joining = set(lists.joining)
        self._kinds = {
            stem: kind
            for kind, words in (
                (Kind.ADJECTIVE, lists.adjectives),
                (Kind.ACTIVITY, lists.activities),
                (Kind.SCENE, lists.scenes),
            )
            for stem in self._stems(words)
        }
        self._activity_endings = lists.activity_endings
        self._not_activities = set(lists.not_activities)
        self._implied = {
            stem: frozenset(self._reached(stem, lists.implies))
            for stem in self._stems(lists.implies)
        }

    def stem(self, form: str) -> str:
        """Return what joins the forms of one word."""
        stem = self._snowball(form)
        same = self._same_as.get(form) or self._same_as.get(stem)
        return self._snowball(same) if same else stem

    def tokens(self, caption: str) -> list[Token]:
        """Divide a caption into its words, in lower case; ignored ones have no stem."""
        found = []
        for form in self._divide(caption):
            stem = self.stem(form)
            is_ignored = form in self._ignored_forms or stem in self._ignored
            found.append(Token("" if is_ignored else stem, form))
        return found

    def content(self, caption: str) -> set[str]:
        """Return the stems that a caption says, with those that they imply."""
        stems = {token.stem for token in self.tokens(caption) if token.stem}
        return stems.union(*(self.implied(stem) for stem in stems))

    def implied(self, stem: str) -> frozenset[str]:
        """Return the stems of the words that a word says, too, without itself."""
        return self._implied.get(stem, frozenset())

    def phrases(self, tokens: Sequence[Token]) -> list[tuple[tuple[str, str], str]]:
        """List the pairs of content words that follow each other: their stems, and as written."""
        found = []
        places = [
            place
            for place, token in enumerate(tokens)
            if not (token.form in self._joining and 0 < place < len(tokens) - 1)
        ]
        for first, second in pairwise(places):
            stems = tokens[first].stem, tokens[second].stem
            if all(stems) and stems[0] != stems[1]:
                written = (token.form for token in tokens[first : second + 1])
                found.append((stems, self.separator.join(written)))
        return found

    def implied_pairs(self, pair: tuple[str, str]) -> set[tuple[str, str]]:
        """Return a pair of stems, and those that it implies: `young boy`, `young child`."""
        first, second = ({stem, *self.implied(stem)} for stem in pair)
        return set(product(first, second))

    def kind(self, stem: str, form: str) -> Kind:
        """Say of which kind a word is, by the lists; form: how it is written most often."""
        if stem in self._kinds:
            return self._kinds[stem]
        ends = form.endswith(tuple(self._activity_endings))
        return Kind.ACTIVITY if ends and form not in self._not_activities else Kind.NOUN

    def _stems(self, words: Iterable[str]) -> set[str]:
        return {self.stem(word) for word in words}

    def _reached(self, stem: str, implies: Mapping[str, str]) -> set[str]:
        steps = {self.stem(word): self.stem(implied) for word, implied in implies.items()}
        reached: set[str] = set()
        while (stem := steps.get(stem, "")) and stem not in reached:
            reached.add(stem)
        return reached


def base_language(name: str) -> str:
    """Return the language of a name such as `zh`, `zh_mt` or `pt-BR`: `zh`, `zh`, `pt`."""
    return regex.split(r"[-_]", name.lower())[0]


def _are_words(table: Mapping[str, Any]) -> bool:
    return all(isinstance(word, str) and word for word in table.values())


def _divide(caption: str) -> list[str]:
    without_genitive = regex.sub(r"['’]s\b", "", caption.lower())
    return [word for word in _WORD.findall(without_genitive) if len(word) > 1]


@lru_cache(maxsize=1)
def _chinese_divider() -> Callable[[str], list[str]]:
    with import_errors_as(_NEEDS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its use of pkg_resources
        import jieba
    jieba.setLogLevel("WARNING")
    jieba.initialize()

    def divide(caption: str) -> list[str]:
        words = (word.strip().lower() for word in jieba.lcut(caption))
        return [word for word in words if _WORD.search(word)]

    return divide


def _snowball(language: str) -> Callable[[str], str]:
    name = _SNOWBALL.get(language)
    if name is None:
        return lambda form: form
    with import_errors_as(_NEEDS):
        import snowballstemmer
    stem: Callable[[str], str] = lru_cache(maxsize=1 << 16)(snowballstemmer.stemmer(name).stemWord)
    return stem


def read_words(language: str, file: Path | None) -> QueryWords:
    """Make the words of a language with the lists of a file, or with those that are bundled.

    Raises UsageError for a file that cannot be read.
    """
    if file is None:
        return QueryWords(language)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    return QueryWords(language, WordLists.read(text, str(file)))


def absent_queries(language: str) -> list[str]:
    """Return 60 hand-written queries about things that Flickr8k does not show, never trained on.

    Empty for languages other than English, German and Chinese.
    """
    language = base_language(language)
    name = "absent_queries.txt" if language == "en" else f"absent_queries.{language}.txt"
    bundled = files(__package__).joinpath(name)
    return bundled.read_text(encoding="utf-8").splitlines() if bundled.is_file() else []
