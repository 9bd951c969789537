"""Words of a query text that say when, where and with what: filters; the rest is for the encoder.

"people in Paris 2019" looks for people among the photos of Paris and of 2019. Only what the library
has becomes a filter, and a word that may be another one only where the text tells: precision comes
before recall, as a wrong filter hides what was asked for.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache

import regex
from pydantic import ValidationError

from retrieval.filters import Filter, TimeRange
from retrieval.search.library_words import Folder, LibraryWords, topmost
from retrieval.search.query import (
    Mode,
    ParsedQuery,
    Part,
    PartKind,
    Query,
    TextPart,
    UnderstoodPart,
)
from retrieval.search.times import Period, TimeExpression, find_times
from retrieval.search.tokens import (
    MOST_TOKENS,
    Token,
    join,
    key_of,
    keys,
    phrases,
    query_words,
    tokenize,
)

_GAP = regex.compile(r"[\s'’\-]{0,2}")
_MOST_WORDS = 5
_MOST_FOLDERS = 12
"""Of one part; more are named by what their paths have in common, or left out."""


@dataclass(frozen=True)
class ParsedText:
    """A text without the words that became filters. is_empty: what is left says nothing."""

    rest: str
    understood: tuple[UnderstoodPart, ...]
    is_empty: bool = False


_PICTURES = keys(
    "photo|photos|photograph|photographs|picture|pictures|pic|pics|image|images|shots|snapshots|"
    "snaps|selfies|album|everything|all|foto|fotos|fotografien|aufnahmen|bild|bilder|"
    "photographies|fotografía|fotografías|imagen|imágenes|fotografia|fotografie|immagini|imagem|"
    "imagens|foto's|afbeeldingen|plaatjes|bilden|bilderna|billeder|billede|kuva|kuvat|zdjęcia|"
    "zdjęcie|фото|фотография|фотографии|фотографий|снимки|снимок|світлини|fotky|obrázky|"
    "fotoğraflar|fotoğrafları|照片|相片|图片|圖片|写真|画像|사진|사진들|صور|תמונות|ảnh|hình ảnh"
)
_ARTICLES = keys(
    "a|an|the|my|our|his|her|their|your|der|die|das|den|dem|ein|eine|einer|einem|einen|mein|meine|"
    "meiner|meinem|meinen|unser|unserer|le|la|les|l|un|une|mon|ma|mes|notre|nos|el|los|las|una|mi|"
    "mis|nuestra|il|lo|gli|i miei|mio|mia|o|os|um|uma|meu|minha|de|het|een|mijn|我|我的|我们的"
)
_WITH = keys("with|on|by|using|via|mit|per|avec|au|con|com|met|med|с|на|用|で")
_FROM = keys("from|by|of|vom|von|aus|de|du|del|da|do|dal|dalla|van|fra|från|с|z|от|来自|的")
_TAKEN = keys(
    "shot|taken|captured|photographed|made|aufgenommen|fotografiert|gemacht|geschossen|geknipst|"
    "pris|prise|prises|photographié|photographiés|tomada|tomadas|hecha|hechas|scattata|scattate|"
    "fatte|tirada|tiradas|genomen|gemaakt|tagna|taget|taget|снято|снятые|снятый|拍|拍的|拍摄|拍摄的|"
    "拍攝|拍攝的|撮影|撮影した"
)
_CAMERA_WORDS = keys("camera|cam|phone|kamera|handy|appareil|cámara|fotocamera|câmera|相机|手机")
_THINGS = keys(
    "apple|pixel|galaxy|hero|one|note|plus|pro|max|mini|air|play|edge|magic|honor|nova|mate|view|"
    "go|red|phantom|spark|power|shot|powershot|mark|black|sport|digital|camera|test|model|canon|"
    "nothing|mirage|moto|action|pocket|ultra|lite|fold|flip|rebel|sigma|axon|robot|realme|zoom"
)
"""Names of cameras that are other words: they count where the text speaks of a camera."""
_BRANDS = {
    key_of(name): brand
    for brand, names in {
        "fuji": "富士|富士フイルム|후지",
        "canon": "佳能|キヤノン|캐논",
        "nikon": "尼康|ニコン|니콘",
        "sony": "索尼|ソニー|소니",
        "leica": "徕卡|ライカ",
        "apple": "苹果",
        "huawei": "华为",
        "xiaomi": "小米",
        "iphone": "苹果手机|アイフォン|아이폰|айфон|айфона",
    }.items()
    for name in names.split("|")
}
_PLACE_PREPOSITIONS = keys(
    "in|at|from|near|around|to|of|auf|aus|bei|nach|im|am|um|à|a|au|aux|en|de|du|da|do|na|no|em|del|"
    "nel|nella|di|в|во|из|у|на|в городе|w|we|z|ze|v|ve|i|på|fra|från|till|op|uit|te|在|于|於"
)
_FOLDER = keys(
    "folder|directory|album|ordner|verzeichnis|dossier|carpeta|cartella|pasta|map|папка|папке|"
    "文件夹|目录|相册|フォルダ|폴더"
)
_SMALL = (
    _ARTICLES
    | _WITH
    | _FROM
    | _PLACE_PREPOSITIONS
    | keys(
        "and|und|et|y|e|show|me|find|zeig|mir|s|d|about|的|の|之|们|所有|全部|all|"
        "alle|tous|todas|todos|tutte"
    )
)
"""Words that are no name, and say nothing of what a photo shows."""
_PARTICLES = keys("的|の|의|で|에서")
_WORDS = keys(
    "nice|bath|reading|orange|mobile|turkey|china|split|hope|man|bar|tours|lens|essen|wedding|beach|"
    "snow|home|holiday|trip|street|mitte|of|ham|bear|same|male|chad|jordan|georgia|victoria|nancy|"
    "florence|charlotte|austin|may|march|august|april|june|sandy|lake|park|hill|river|castle|church|"
    "bridge|field|forest|garden|island|cat|dog|dogs|cats|bird|birds|car|cars|boat|boats|people|"
    "children|kids|girl|boy|woman|men|women|baby|water|sea|mountain|mountains|city|town|village|"
    "house|food|flower|flowers|tree|trees|sunset|party|birthday|family|friends|summer|winter|"
    "spring|autumn|night|day|red|blue|green|black|white|yellow|brown|horse|ball|football|best|"
    "work|travel|vacation|urlaub|reise|hof|singen|lage|weil|baden|regen|wald|berg|anna|maria|paul|"
    "santiago|sofia|lima|cork|derby|sale|deal|rugby|swan|hull|poole|buffalo|phoenix|aurora|eagle|"
    "flint|gary|hamburger|independence|liberty|media|mission|normal|opportunity|paradise|pasta|"
    "plains|racine|surprise|union|university|why|york|rome beauty|ni|la|un|le|ye|is|as|or"
)
"""Names of places that are other words, too: with a capital letter and a sign of a place only."""


def parse_query(
    query: Query, library: LibraryWords, matches: Callable[[Filter], bool], now: date
) -> ParsedQuery:
    """Turn the words of a query's wanted texts into filters, where these leave something to find.

    A text that says nothing else is left out beside other parts. Alone, it stays for the order of
    what passes the filters, and nothing is cut by relevance.

    Args:
        query: The query, with `literal` for words that are not to be understood.
        library: Words of the library.
        matches: Tells whether any item passes a filter.
        now: Today.
    """
    understood: list[UnderstoodPart] = []
    warnings: list[str] = []
    parts: list[Part] = []
    empty: list[Part] = []
    for part in query.parts:
        if not isinstance(part, TextPart) or part.weight < 0:
            parts.append(part)
            continue
        found = parse_text(part.text, library, now, literal=query.literal)
        kept, missing = _that_leave_something(found.understood, query.where, understood, matches)
        warnings += missing
        if len(kept) < len(found.understood):
            spans = [u for u in found.understood if u in kept]
            found = _cut(part.text, tokenize(part.text), spans)
        if kept and found.is_empty and query.mode is Mode.TEXT:
            parts.append(part)  # its words are all that can be looked for
            continue
        understood += kept
        rest = replace(part, text=found.rest or part.text)
        (empty if kept and found.is_empty else parts).append(rest)
    if not understood:
        return ParsedQuery(query, query, (), tuple(warnings))
    where = _all_of([*([query.where] if query.where else []), *(u.where for u in understood)])
    if parts:
        asked = replace(query, parts=tuple(parts), where=where)
    else:
        asked = replace(query, parts=tuple(empty), where=where, mode=Mode.VECTOR, min_relevance=0.0)
    return ParsedQuery(query, asked, tuple(understood), tuple(warnings))


def _that_leave_something(
    found: Sequence[UnderstoodPart],
    where: Filter | None,
    before: Sequence[UnderstoodPart],
    matches: Callable[[Filter], bool],
) -> tuple[list[UnderstoodPart], list[str]]:
    """Return the parts that together let something pass, and what to say of the others."""
    always = [*([where] if where else []), *(u.where for u in before)]
    kept = list(found)
    if kept and not _passes([*always, *(u.where for u in kept)], matches):
        kept = [u for u in kept if _passes([*always, u.where], matches)]
        while len(kept) > 1 and not _passes([*always, *(u.where for u in kept)], matches):
            kept.pop()
    missing = [
        f'Nothing in the library is of "{u.words}" ({u.label}){" as well" if kept else ""}: the '
        "words were searched for as they are."
        for u in found
        if u not in kept
    ]
    return kept, missing


def _passes(parts: Sequence[Filter], matches: Callable[[Filter], bool]) -> bool:
    try:
        return matches(_all_of(parts))
    except ValidationError:  # more conditions than a filter may have
        return False


def _all_of(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Filter(all_of=tuple(parts))


def parse_text(
    text: str, library: LibraryWords, now: date, *, literal: Collection[str] = ()
) -> ParsedText:
    """Find the words of a text that are filters in a library.

    Args:
        text: The text.
        library: Words of the library.
        now: Today.
        literal: Words that are not to be understood, as `UnderstoodPart.words` has them.

    Returns:
        The parts in the order of the text, and the rest of it.
    """
    tokens = tokenize(text)
    if not tokens or len(tokens) > MOST_TOKENS:
        return ParsedText(text, ())
    reader = _Reader(text, tokens, library, now)
    taken = [False] * len(tokens)
    found: list[UnderstoodPart] = []
    kept_words = {key_of(words) for words in literal}
    for find in (reader.cameras, reader.times, reader.places):
        for part in find(found):
            if any(taken[part.first : part.last]) or key_of(part.words) in kept_words:
                continue
            taken[part.first : part.last] = [True] * (part.last - part.first)
            found.append(part)
    return _cut(text, tokens, sorted(found, key=lambda part: part.first))


def _cut(text: str, tokens: Sequence[Token], parts: Sequence[UnderstoodPart]) -> ParsedText:
    """Take parts out of a text."""
    if not parts:
        return ParsedText(text, ())
    pieces, at = [], 0
    for part in parts:
        pieces.append(text[at : tokens[part.first].start])
        at = tokens[part.last - 1].end
    pieces.append(text[at:])
    rest = " ".join(" ".join(pieces).split())
    rest = regex.sub(r"\s+([,.;:!?])", r"\1", regex.sub(r"([,;:])(?:\s*[,;:])+", r"\1", rest))
    rest = regex.sub(r"[(\[（]\s*[,;]?\s*[)\]）]", "", rest).strip(" ,;:-–—·")
    left = set(range(len(tokens))) - {at for part in parts for at in range(part.first, part.last)}
    is_empty = _says_nothing(text, tokens, left)
    return ParsedText(rest, tuple(parts), is_empty)


def _says_nothing(text: str, tokens: Sequence[Token], places: Collection[int]) -> bool:
    """Return whether some tokens only say that photos are wanted."""
    at = 0
    while at < len(tokens):
        if at not in places:
            at += 1
            continue
        for end, key in phrases(tokens, at, _MOST_WORDS, _GAP, text):
            if (key in _PICTURES or key in _SMALL) and all(p in places for p in range(at, end)):
                at = end
                break
        else:
            return False
    return True


class _Reader:
    """Finds the parts of each kind in a text."""

    def __init__(
        self, text: str, tokens: Sequence[Token], library: LibraryWords, now: date
    ) -> None:
        self._text = text
        self._tokens = tokens
        self._library = library
        self._now = now
        spelled = [text[token.start : token.end] for token in tokens if token.kind == "word"]
        # IN CAPITALS and In Titles, a capital tells nothing.
        self._has_lower = any(word[0].islower() for word in spelled if len(word) > 3)

    # ---- Time

    def times(self, found: Sequence[UnderstoodPart]) -> list[UnderstoodPart]:
        """Find the times."""
        expressions = find_times(
            self._text,
            self._tokens,
            self._now,
            years=self._library.years,
            is_southern=self._library.is_southern,
            is_all=lambda first, last: self._is_all(first, last, found),
        )
        return [self._time(expression) for expression in expressions]

    def _time(self, expression: TimeExpression) -> UnderstoodPart:
        dated = [
            Filter(taken_at=_range(period, recorded=not expression.is_recent))
            for period in expression.periods
        ]
        named = [f for period in expression.periods for f in self._library.folders_in(period)]
        if below := _below(named, by_date=True):
            # A folder tells the year of files that do not tell it themselves.
            undated = Filter(none_of=Filter(taken_at=TimeRange(recorded=True)))
            dated.append(Filter(all_of=(_any_of(below), undated)))
        return self._part(
            expression.first, expression.last, PartKind.TIME, expression.label, _any_of(dated)
        )

    # ---- Camera

    def cameras(self, found: Sequence[UnderstoodPart]) -> list[UnderstoodPart]:
        """Find cameras that are said to have taken the photos."""
        parts = []
        at = 0
        while at < len(self._tokens):
            part = self._camera(at)
            if part is not None:
                parts.append(part)
            at = at + 1 if part is None else part.last
        return parts

    def _camera(self, at: int) -> UnderstoodPart | None:
        for end, key in self._phrases(at):
            said = _BRANDS.get(key, key)
            first = said.split(" ")[0]
            if key in _SMALL or key in _PICTURES or (len(key) < 3 and said == key):
                continue
            if not any(first in camera for camera, _ in self._library.cameras()):
                continue
            if written := self._cameras_named(said):
                first_token, last_token = self._of_camera(at, end, key)
                if last_token:
                    wanted = _any_of([Filter(camera=name) for name in written])
                    folded = [name.casefold() for name in written]
                    named = [
                        name
                        for _, name in self._library.cameras()
                        if any(part in name.casefold() for part in folded)
                    ]
                    label = named[0] if len(named) == 1 else self._spelled(at, end)
                    return self._part(first_token, last_token, PartKind.CAMERA, label, wanted)
        return None

    def _cameras_named(self, key: str) -> list[str]:
        """Return how the words of a key are spelled in the names of cameras that have them."""
        pattern = regex.compile(
            r"(?<![\p{L}\p{N}])" + r"[\s\-_]*".join(map(regex.escape, key.split(" "))),
            regex.IGNORECASE,
        )
        names = (pattern.search(name) for _, name in self._library.cameras())
        return sorted({match[0] for match in names if match})[:_MOST_FOLDERS]

    def _of_camera(self, at: int, end: int, key: str) -> tuple[int, int]:
        """Return where "shot with a X" around a camera begins and ends; (0, 0) if not said so."""
        first = at
        while first and self._tokens[first - 1].key in _ARTICLES:
            first -= 1
        preposition = self._tokens[first - 1].key if first else ""
        start = first - 1 if preposition in _WITH | _FROM else first
        last = end
        if says_camera := end < len(self._tokens) and self._tokens[end].key in _CAMERA_WORDS:
            last += 1
        has_preposition = start < first
        if has_preposition or key not in _THINGS:
            for stop, following in self._phrases(last) if last < len(self._tokens) else ():
                if following in _TAKEN:
                    return start, stop
            if start and self._tokens[start - 1].key in _TAKEN:
                return start - 1, last
        says_from = has_preposition and preposition in _FROM
        is_said = (
            (says_from and says_camera)
            or (has_preposition and preposition != "with" and self._ends_with_pictures(start))
            or ((says_from or not has_preposition) and self._is_all(start, last, ()))
        )
        return (start, last) if is_said and (key not in _THINGS or says_camera) else (0, 0)

    def _ends_with_pictures(self, end: int) -> bool:
        """Return whether the words before a token are the photos that are wanted."""
        return any(
            join(self._tokens[start:end]) in _PICTURES for start in range(max(0, end - 3), end)
        )

    # ---- Places and folders

    def places(self, found: Sequence[UnderstoodPart]) -> list[UnderstoodPart]:
        """Find places that photos were taken at, and folders."""
        parts: list[UnderstoodPart] = []
        taken = {at for part in found for at in range(part.first, part.last)}
        at = 0
        while at < len(self._tokens):
            part = None if at in taken else self._place(at, taken, [*found, *parts])
            if part is not None:
                parts.append(part)
                taken.update(range(part.first, part.last))
            at = at + 1 if part is None else part.last
        return parts

    def _place(
        self, at: int, taken: Collection[int], found: Sequence[UnderstoodPart]
    ) -> UnderstoodPart | None:
        for end, key in self._phrases(at):
            if any(place in taken for place in range(at, end)) or key in _SMALL or len(key) < 2:
                continue
            first, last = self._with_preposition(at, taken), end
            if end < len(self._tokens) and self._tokens[end].key in _PARTICLES:
                last += 1
            is_meant = self._is_meant(first, at, last, key, found)
            explicit = self._says_folder(at, end)
            # Before the library is asked, which reads all its folders once.
            if not is_meant and explicit is None:
                continue
            names = [key, *map(key_of, _aliases().get(key, ()))]
            known = [self._library.places()[n] for n in names if n in self._library.places()]
            named = [folder for name in names for folder in self._library.folders_named(name)]
            folders = _below(f for f in named if not all(k.isdigit() for k in f.keys))
            spelled = self._spelled(at, end)
            if is_meant and (known or (folders and _is_place_name(names))):
                wanted = [Filter(place=name) for name in dict.fromkeys(known)]
                label = known[0] if known else spelled
                return self._part(first, last, PartKind.PLACE, label, _any_of(wanted + folders))
            if folders and explicit is not None:
                return self._part(*explicit, PartKind.FOLDER, spelled, _any_of(folders))
            if folders and first < at and self._is_name(at, last, key, found):
                return self._part(first, last, PartKind.FOLDER, spelled, _any_of(folders))
        return None

    def _is_name(self, at: int, end: int, key: str, found: Sequence[UnderstoodPart]) -> bool:
        """Return whether a word that is no known place is written as a name."""
        is_capital = self._is_capital(at) and at > 0 and self._has_lower
        is_dated = any(part.first == end and part.kind is PartKind.TIME for part in found)
        return (is_capital or is_dated) and key not in _WORDS

    def _is_meant(
        self, first: int, at: int, end: int, key: str, found: Sequence[UnderstoodPart]
    ) -> bool:
        """Return whether the name of a place is meant as one."""
        is_syllables = any(token.kind == "syllable" for token in self._tokens[at:end])
        if is_syllables:
            return len(key) > 1
        is_next_to_other = any(
            part.last == first or part.first == end
            for part in found
            if part.kind in {PartKind.TIME, PartKind.PLACE}
        )
        is_alone = end - at <= 3 and self._is_all(at, end, found)
        is_capital = self._is_capital(at) and self._has_lower
        if key in _WORDS:
            if at and self._tokens[at - 1].key in _ARTICLES:
                return False
            return self._is_capital(at) and (first < at or is_next_to_other or is_alone)
        return first < at or is_next_to_other or is_alone or is_capital

    def _says_folder(self, at: int, end: int) -> tuple[int, int] | None:
        """Return the tokens of "in the folder X" or "X folder" around a name."""
        if at and self._tokens[at - 1].key in _FOLDER:
            return self._with_preposition(at - 1, ()), end
        if end < len(self._tokens) and self._tokens[end].key in _FOLDER:
            return self._with_preposition(at, ()), end + 1
        return None

    def _with_preposition(self, at: int, taken: Collection[int]) -> int:
        """Return where the preposition before a name begins."""
        first = at
        if at and self._spelled(at - 1, at) == "a" and not self._is_capital(at):
            return at  # English: "a bath"; "à Paris" and "a Roma" are prepositions
        while first and self._tokens[first - 1].key in _ARTICLES and first - 1 not in taken:
            first -= 1
        for end in range(first, at + 1):
            for start in range(max(0, end - 2), end):
                if join(self._tokens[start:end]) in _PLACE_PREPOSITIONS and start not in taken:
                    return start
        return at

    def _is_capital(self, at: int) -> bool:
        return self._text[self._tokens[at].start].isupper()

    # ---- All kinds

    def _is_all(self, first: int, last: int, found: Sequence[UnderstoodPart]) -> bool:
        """Return whether the text says nothing but some tokens and the parts found."""
        left = set(range(len(self._tokens))) - set(range(first, last))
        for part in found:
            left -= set(range(part.first, part.last))
        return _says_nothing(self._text, self._tokens, left)

    def _phrases(self, at: int) -> Iterable[tuple[int, str]]:
        return phrases(self._tokens, at, _MOST_WORDS, _GAP, self._text)

    def _spelled(self, first: int, last: int) -> str:
        return self._text[self._tokens[first].start : self._tokens[last - 1].end]

    def _part(
        self, first: int, last: int, kind: PartKind, label: str, where: Filter
    ) -> UnderstoodPart:
        return UnderstoodPart(self._spelled(first, last), kind, label, where, first, last)


def _range(period: Period, *, recorded: bool) -> TimeRange:
    since, before = (datetime(day.year, day.month, day.day) if day else None for day in period)
    return TimeRange(since=since, before=before, recorded=recorded)


def _any_of(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Filter(any_of=tuple(parts))


def _below(folders: Iterable[Folder], *, by_date: bool = False) -> list[Filter]:
    """Make filters of the files below some folders: few, or none if there are too many folders.

    by_date: many folders of the same date are one pattern.
    """
    top = topmost(folders)
    if len(top) <= _MOST_FOLDERS:
        return [Filter(source=folder.path) for folder in top]
    if by_date:
        patterns = {f"{_escaped(folder.dated_to)}*/**" for folder in top}
    else:
        patterns = {f"**/{_escaped(folder.name)}/**" for folder in top}
    if len(patterns) > _MOST_FOLDERS:
        return []
    return [Filter(path=pattern) for pattern in sorted(patterns)]


def _escaped(path: str) -> str:
    return regex.sub(r"[*?\[]", r"[\g<0>]", path)


def _is_place_name(names: Iterable[str]) -> bool:
    """Return whether one of some keys is that of a country or of a large city."""
    return any(name in _place_keys() for name in names)


@cache
def _place_keys() -> frozenset[str]:
    words = query_words()
    return frozenset(words["countries"]).union(words["cities"])


def _aliases() -> dict[str, list[str]]:
    aliases: dict[str, list[str]] = query_words()["places"]
    return aliases
