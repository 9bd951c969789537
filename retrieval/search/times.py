"""Expressions of time in a query text: "december 2019", "last summer", "vor drei Tagen", "三月".

A month or a season by itself is often another word (may, march, august, fall): it counts with a
year, after "last", after "in" of its language, or alone in the text.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple

import regex

from retrieval.search.tokens import Token, join, key_of, keys, phrases, query_words

FIRST_YEAR = 1900

_GAP = regex.compile(r"[\s'’.,·\-]{0,3}")
_MOST_WORDS = 5
_SEASON_MONTHS = (3, 6, 9, 12)
"""First months of the meteorological seasons in the north: spring, summer, autumn, winter."""


_SEASONS = {
    word: season
    for season, words in enumerate(
        (
            "spring|springtime|frühling|frühlings|frühjahr|printemps|primavera|lente|voorjaar|vår|"
            "våren|forår|foråret|kevät|keväällä|wiosna|wiosną|wiosny|jaro|jaře|весна|весной|весны|"
            "весною|ilkbahar|ilkbaharda|春|春天|春季|봄|mùa xuân|musim semi|tavasz|primăvara|"
            "άνοιξη",
            "summer|summertime|sommer|sommers|été|verano|verão|estate|zomer|sommar|sommaren|"
            "sommeren|kesä|kesällä|lato|latem|lata|léto|létě|лето|летом|лета|літо|літом|влітку|yaz|"
            "yazın|夏|夏天|夏季|夏日|여름|mùa hè|mùa hạ|musim panas|nyár|vara|καλοκαίρι",
            "autumn|fall|herbst|herbstes|automne|otoño|outono|autunno|herfst|höst|hösten|efterår|"
            "efteråret|høst|høsten|syksy|syksyllä|jesień|jesienią|jesieni|podzim|осень|осенью|осени|"
            "осінь|восени|sonbahar|sonbaharda|秋|秋天|秋季|가을|mùa thu|musim gugur|ősz|toamna|"
            "φθινόπωρο",
            "winter|wintertime|winters|hiver|invierno|inverno|vinter|vintern|vinteren|talvi|"
            "talvella|zima|zimą|zimy|zimě|зима|зимой|зимы|зимою|взимку|kış|kışın|冬|冬天|冬季|겨울|"
            "mùa đông|musim dingin|tél|iarna|χειμώνας",
        )
    )
    for word in keys(words)
}
_SEASONS_ELSEWHERE = keys("estate|lente|lata|vår|var|vara|yaz|tel|primavera|fall|春|夏|秋|冬")
"""Seasons that are other words, too: they need a year or "last"."""

_LAST = {
    "en": keys("last|past|previous"),
    "de": keys(
        "letzte|letzten|letzter|letztes|letztem|vergangene|vergangenen|vergangener|vergangenes|"
        "vorige|vorigen|voriger|voriges"
    ),
    "nl": keys("afgelopen|vorig|vorige"),
    "sv": keys("förra"),
    "da": keys("sidste|forrige"),
    "nb": keys("siste|forrige"),
    "fi": keys("viime"),
    "ru": keys("прошлый|прошлая|прошлое|прошлой|прошлым|прошлом|прошлую|прошлого"),
    "uk": keys("минулого|минулої|минулий"),
    "pl": keys("zeszły|zeszła|zeszłe|zeszłej|zeszłego|zeszłym|ostatni|ostatniej"),
    "cs": keys("minulý|minulá|minulé|loni"),
    "tr": keys("geçen"),
    "zh": keys("上|上个|上個"),
    "ja": keys("前の|先の"),
    "ko": keys("지난"),
    "it": keys("l'ultima|l'ultimo"),
}
_LAST_AFTER = {
    "fr": keys("dernier|dernière|passé|passée"),
    "es": keys("pasado|pasada"),
    "pt": keys("passado|passada"),
    "it": keys("scorso|scorsa"),
    "id": keys("lalu"),
    "vi": keys("trước"),
}
_THIS = {
    "en": keys("this"),
    "de": keys("dieser|diese|diesen|dieses|diesem"),
    "fr": keys("ce|cet|cette"),
    "es": keys("este|esta"),
    "pt": keys("este|esta"),
    "it": keys("questo|questa"),
    "nl": keys("deze|dit"),
    "sv": keys("denna|detta"),
    "da": keys("denne|dette"),
    "nb": keys("denne|dette"),
    "ru": keys("этот|этой|этим|этого"),
    "uk": keys("цього|цієї"),
    "tr": keys("bu"),
    "zh": keys("这个|這個"),
    "ko": keys("이번"),
}
"""Words by language that make of a month, season or unit the one before, or that of today."""
_IN = {
    "en": keys("in|during|from|of|since"),
    "de": keys("im|in|vom|aus dem"),
    "fr": keys("en|de|d|au|au mois de|du mois de"),
    "es": keys("en|de|en el mes de"),
    "pt": keys("em|de|no|do"),
    "it": keys("a|in|nel|di|d|dell"),
    "nl": keys("in|van"),
    "sv": keys("i|från"),
    "da": keys("i|fra"),
    "nb": keys("i|fra"),
    "pl": keys("w|z|we"),
    "cs": keys("v|ve|z"),
    "sk": keys("v|vo|z"),
    "ru": keys("в|за|с"),
    "uk": keys("в|у|за"),
    "ro": keys("în|din"),
    "ca": keys("al|el|de"),
    "hr": keys("u|iz"),
    "bg": keys("през|от"),
    "zh": keys("在|于|於"),
}
_IN_SEASON = keys("in|during|im|en|em|no|nel|au|om|på|во время")
_ANY_IN = frozenset().union(*_IN.values()) | keys("l|the|der|den|le|la|les|el|il|lo|on|at|am|az|de")
_ANY_IN |= keys(
    "from the|in the|of the|during the|year|the year|in the year|of the year|jahr|im jahr|im jahre|"
    "aus dem jahr|année|l'année|"
    "en el año|el año|del año|anno|nell'anno|ano|no ano|jaar|in het jaar|año"
)
_AFTER_TIME = _ANY_IN | keys("time|and|with|und|mit|et|avec|y|con|e|com|with|by|near|s")
_THE = keys("the|der|den|dem|das|le|la|les|l|el|lo|il")
_CONNECTORS = keys(
    "of|de|del|di|d|do|da|dell|von|vom|des|van|the|der|in|im|i|в|w|s|的|の|의|en|av|af"
)
_YEAR_SUFFIXES = keys("年|년|года|году|год|року|році|рік|г|roku|yılı|yılında")
_DAY_SUFFIXES = keys("st|nd|rd|th|er|日|号|號|일|º|de")
_GLUE = keys("的|の|に|의|에|份|度|拍|年")
_COMPOUNDS = frozenset("围圍轻輕代级級龄齡亮饼餅球边邊末天节節祭革会會")
_SINCE = keys("since|seit|depuis|desde|dal|sinds|sedan|с|od|自|自从|从|從|since the")
_BEFORE = keys(
    "before|vor|avant|antes de|prima del|voor|före|før|до|przed|előtt|until|bis|tot|hasta"
)
_AFTER = keys("after|nach|après|después de|dopo il|dopo|na|efter|etter|после|po")
_UNTIL = keys("until|bis|bis zum|tot|hasta|jusqu'à|jusqu'en|fino al|till|до|do")
_TO = keys("to|until|till|bis|à|a|al|tot|and|und|et|y|e|до|do|至|到|から|~")
_BETWEEN = keys("between|from|von|zwischen|entre|de|tra|dal|tussen|van|från|fra|с|od|между|从|從")
_UNITS_AFTER = keys(
    "people|persons|m|km|cm|mm|ft|feet|meter|meters|metres|mètres|miles|euro|euros|dollar|dollars|"
    "px|pixel|pixels|pieces|times|kg|g|watt|years|jahre|personen|leute|人|米|元|円|个|個|张|x|rpm|ad|bc"
)

_NUMERIC = regex.compile(
    r"(?<![\w.,/\-])(?:"
    r"(?P<y>\d{4})(?:-(?P<m>\d{1,2})(?:-(?P<d>\d{1,2}))?"
    r"|/(?P<m>\d\d)|(?P<s>[./])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2}))"
    r"|(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4})"
    r"|(?P<a>\d{1,2})/(?P<b>\d{1,2})/(?P<y>\d{4})"
    r"|(?P<m>\d{1,2})[./](?P<y>\d{4})"
    r"|(?P<decade>(?:19|20)\d0)['’]?s"
    r")(?![\w/\-]|[.,]\d)"
)


# What makes of four digits a part of something else: "IMG_2019", "$2000", "2000x1000", "1.2019.5".
_STUCK_BEFORE = regex.compile(
    r"(?:(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}])[\p{L}\p{M}_$€£¥#/@:&]|\d[.,])$"
)
_STUCK_AFTER = regex.compile(
    r"(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}])[\p{L}\p{M}_%€°/:@]|[.,]\d"
)


class Period(NamedTuple):
    """Days from `since` to before `before`; None: without an end."""

    since: date | None
    before: date | None

    def __str__(self) -> str:
        """Write as ISO dates, as short as they say it."""
        if self.since is None:
            return f"– {_day(self.before, -1)}"
        if self.before is None:
            return f"{self.since} –"
        since, before = self.since, self.before
        if (since.month, since.day, before.month, before.day) == (1, 1, 1, 1):
            last = before.year - 1
            return str(since.year) if last == since.year else f"{since.year} – {last}"
        if since.day == before.day == 1:
            last_month = f"{before - timedelta(1):%Y-%m}"
            first_month = f"{since:%Y-%m}"
            return last_month if first_month == last_month else f"{first_month} – {last_month}"
        last_day = before - timedelta(1)
        return str(since) if last_day == since else f"{since} – {last_day}"


@dataclass(frozen=True)
class TimeExpression:
    """Tokens first to last-1 of a text, and the periods that they mean.

    is_recent: near today by days or weeks, where the modification time of a file tells its date,
    too, as that of a screenshot or a document.
    """

    first: int
    last: int
    periods: tuple[Period, ...]
    label: str
    is_recent: bool = False


@dataclass(frozen=True)
class _Words:
    """Words of all languages by key: months and weekdays in full, with the languages."""

    months: dict[str, tuple[int, frozenset[str]]]
    short_months: dict[str, int]
    weekdays: dict[str, int]
    relative: dict[str, tuple[str, int]]
    units: dict[str, dict[str, str]]
    ago: dict[str, frozenset[str]]


@dataclass(frozen=True)
class _Date:
    """Elements of a date as they are read.

    key: of the month or season. languages: of the month. is_short: the month is abbreviated.
    """

    year: int | None = None
    month: int | None = None
    day: int | None = None
    season: int | None = None
    key: str = ""
    languages: frozenset[str] = frozenset()
    is_short: bool = False


def find_times(
    text: str,
    tokens: Sequence[Token],
    now: date,
    *,
    years: Callable[[], Sequence[int]],
    is_southern: Callable[[], bool],
    is_all: Callable[[int, int], bool],
) -> list[TimeExpression]:
    """Find the expressions of time in a text, from left to right.

    Args:
        text: The text.
        tokens: Its tokens.
        now: Today.
        years: Asks for the years to which a month without a year applies.
        is_southern: Asks whether summer is in January.
        is_all: Tells whether the text says nothing but its tokens from one to before another.

    Returns:
        Expressions that do not overlap.
    """
    reader = _Reader(text, tokens, now, years, is_southern, is_all)
    found: list[TimeExpression] = []
    at = 0
    while at < len(tokens):
        expression = reader.read(at)
        if expression is None or reader.is_compound(expression.last):
            at += 1
            continue
        expression = reader.widened(expression, found[-1].last if found else 0)
        found.append(expression)
        at = expression.last
    return found


class _Reader:
    """Reads expressions of time at places of a text."""

    def __init__(
        self,
        text: str,
        tokens: Sequence[Token],
        now: date,
        years: Callable[[], Sequence[int]],
        is_southern: Callable[[], bool],
        is_all: Callable[[int, int], bool],
    ) -> None:
        self._text = text
        self._tokens = tokens
        self._now = now
        self._years = years
        self._is_southern = is_southern
        self._is_all = is_all
        self._words = _words()
        said = join(tokens)
        self._ago_words = [(w, of) for w, of in self._words.ago.items() if w in said]
        self._numeric = {match.start(): match for match in _NUMERIC.finditer(text)}

    def read(self, at: int) -> TimeExpression | None:
        """Read the expression that begins at a token, if any."""
        return (
            self._numeric_date(at)
            or self._ago(at)
            or self._relative(at)
            or self._last(at)
            or self._range(at)
        )

    def is_compound(self, end: int) -> bool:
        """Return whether a text in syllables goes on with the same word: 上周围 is no last week."""
        return (
            end < len(self._tokens)
            and self._is_close(end)
            and self._tokens[end - 1].kind == "syllable"
            and self._tokens[end].key in _COMPOUNDS
        )

    def widened(self, found: TimeExpression, least: int) -> TimeExpression:
        """Take in the preposition before an expression and the particle after it."""
        first, last = found.first, found.last
        for start in range(max(least, first - 4), first):
            if self._joined(start, first) in _ANY_IN:
                first = start
                break
        if first > least and self._joined(first - 1, found.first) in {
            "from the",
            "in the",
            "of the",
        }:
            first -= 1
        if last < len(self._tokens) and (
            (self._is_close(last) and self._tokens[last].key in _GLUE)
            or regex.fullmatch("['’]s", self._text_of(last - 1, last + 1)[-2:])
        ):
            last += 1
        return TimeExpression(first, last, found.periods, found.label, found.is_recent)

    # ---- Whole dates in numbers

    def _numeric_date(self, at: int) -> TimeExpression | None:
        match = self._numeric.get(self._tokens[at].start)
        if match is None:
            return None
        last = at
        while last < len(self._tokens) and self._tokens[last].start < match.end():
            last += 1
        year = int(match["decade"] or match["y"])
        if not FIRST_YEAR <= year <= self._now.year + 1:
            return None
        if match["decade"]:
            return self._period(at, last, date(year, 1, 1), date(year + 10, 1, 1))
        if match["a"]:
            a, b = int(match["a"]), int(match["b"])
            if a <= 12 and b <= 12 and a != b:
                return None  # 3/4/2019 is two days, by country
            month, day = (a, b) if b > 12 else (b, a)
            return self._dated(at, last, _Date(year, month, day))
        known = _Date(year, int(match["m"]), int(match["d"]) if match["d"] else None)
        return self._dated(at, last, known)

    # ---- Relative to today

    def _ago(self, at: int) -> TimeExpression | None:
        """Read "3 days ago" and its like, which dateparser understands."""
        for end, key in self._phrases(at, 6):
            for word, languages in self._ago_words:
                space = "" if self._tokens[end - 1].kind == "syllable" else " "
                if key.startswith(f"{word} "):
                    said = key.removeprefix(f"{word} ")
                elif key.endswith(space + word):
                    said = key.removesuffix(space + word)
                else:
                    continue
                for language in sorted(languages):
                    unit = self._unit_of(said.strip(), language)
                    day = unit and self._parsed(at, end, language)
                    if unit and day:
                        return self._unit_around(at, end, day, unit)
        return None

    def _unit_of(self, number_and_unit: str, language: str) -> str | None:
        """Return the unit of "3 days" or "three days"."""
        units = self._words.units.get(language, {})
        number, _, word = number_and_unit.rpartition(" ")
        if not number:  # close, as in Chinese
            match = regex.fullmatch(r"(\d+|[一二两三四五六七八九十几])(\D+)", number_and_unit)
            number, word = (match[1], match[2]) if match else ("", "")
        return units.get(word) if number and " " not in number else None

    def _parsed(self, at: int, end: int, language: str) -> date | None:
        import dateparser

        said = self._text[self._tokens[at].start : self._tokens[end - 1].end]
        said = said.translate(_NUMERALS)
        noon = datetime.combine(self._now, time(12))
        settings: Any = {"RELATIVE_BASE": noon, "PREFER_DATES_FROM": "past"}
        parsed = dateparser.parse(said, languages=[language], settings=settings)
        return None if parsed is None else parsed.date()

    def _relative(self, at: int) -> TimeExpression | None:
        """Read "yesterday", "last month", "上周"; "last year" may go on with a month."""
        for end, key in self._phrases(at, _MOST_WORDS):
            if key not in self._words.relative:
                continue
            unit, offset = self._words.relative[key]
            if key in _OTHER_WORDS and not self._is_all(at, end):
                return None
            if unit == "year":
                return self._range(at)
            return self._unit_around(at, end, _moved(self._now, unit, offset), unit)
        return None

    def _last(self, at: int) -> TimeExpression | None:
        """Read "last week", "letzten Sommer", "this december", "verano pasado"."""
        for end, key in self._phrases(at, 2):
            for words, offset in ((_LAST, -1), (_THIS, 0)):
                for language in (name for name, known in words.items() if key in known):
                    for stop, named in self._phrases(end, 2) if end < len(self._tokens) else ():
                        if found := self._named_period(at, stop, named, language, offset):
                            return found
        for end, key in self._phrases(at, 2):
            after = self._tokens[end].key if end < len(self._tokens) else ""
            for language in (name for name, known in _LAST_AFTER.items() if after in known):
                if found := self._named_period(at, end + 1, key, language, -1):
                    return found
        return None

    def _named_period(
        self, at: int, last: int, key: str, language: str, offset: int
    ) -> TimeExpression | None:
        """Read a month, season, weekday or unit: the last one, or that of this year or week."""
        if key in self._words.months or key in _SEASONS:
            month = None if key in _SEASONS else self._words.months[key][0]
            for year in range(self._now.year, self._now.year - 3, -1):
                period = self._period_of(_Date(year, month, season=_SEASONS.get(key)))
                if period is None or period.since is None or period.before is None:
                    continue
                if period.before <= self._now if offset else period.since <= self._now:
                    return TimeExpression(at, last, (period,), str(period))
        if key in self._words.weekdays and offset:
            back = (self._now.weekday() - self._words.weekdays[key] - 1) % 7 + 1
            return self._unit_around(at, last, self._now - timedelta(back), "day")
        unit = self._words.units[language].get(key, "day")
        if unit == "day":
            return None
        return self._unit_around(at, last, _moved(self._now, unit, offset), unit)

    def _unit_around(self, first: int, last: int, day: date, unit: str) -> TimeExpression:
        """Return the day, week, month or year in which a day lies."""
        if unit == "day":
            since, before = day, day + timedelta(1)
        elif unit == "week":
            since = day - timedelta(day.weekday())
            before = since + timedelta(7)
        elif unit == "month":
            since = day.replace(day=1)
            before = _next_month(since)
        else:
            since, before = date(day.year, 1, 1), date(day.year + 1, 1, 1)
        period = Period(since, before)
        return TimeExpression(first, last, (period,), str(period), unit in {"day", "week"})

    # ---- Years, months, days and seasons

    def _range(self, at: int) -> TimeExpression | None:
        """Read a date, or two with "to" between them, or one after "before" or "since"."""
        start, direction = at, None
        for end, key in self._phrases(at, 2):
            for words, name in (
                (_SINCE, "since"),
                (_UNTIL, "until"),
                (_BEFORE, "before"),
                (_AFTER, "after"),
            ):
                if key in words and end < len(self._tokens) and direction is None:
                    start, direction = end, name
        first = self._date_at(start)
        if first is None:
            return None if direction is None else self._bare_or_none(at)
        end, told = first
        if direction and told.year is not None:
            return self._open_range(at, end, told, direction)
        if told.year is not None and (second := self._second(end)):
            last, until = second
            since, before = self._period_of(told), self._period_of(until)
            if since and before and since.since and before.before and since.since < before.before:
                first_token = at
                if at and self._tokens[at - 1].key in _BETWEEN:
                    first_token = at - 1
                return self._period(first_token, last, since.since, before.before)
        if direction:
            return self._bare_or_none(at)
        return self._dated(at, end, told)

    def _bare_or_none(self, at: int) -> TimeExpression | None:
        """Read a date at a word that is a preposition of it, too."""
        first = self._date_at(at)
        return None if first is None else self._dated(at, first[0], first[1])

    def _open_range(self, at: int, end: int, told: _Date, direction: str) -> TimeExpression | None:
        period = self._period_of(told)
        if period is None:
            return None
        ends = {
            "since": (period.since, None),
            "after": (period.before, None),
            "before": (None, period.since),
            "until": (None, period.before),
        }
        since, before = ends[direction]
        return self._period(at, end, since, before)

    def _second(self, end: int) -> tuple[int, _Date] | None:
        """Read the second date of a range such as "2018-2020" or "2018 to 2020"."""
        if end >= len(self._tokens):
            return None
        between = self._text[self._tokens[end - 1].end : self._tokens[end].start]
        start = end + 1 if self._tokens[end].key in _TO else end
        if start == end and regex.fullmatch(r"\s?[-–—~]\s?", between) is None:
            return None
        if start >= len(self._tokens):
            return None
        found = self._date_at(start)
        return found if found and found[1].year is not None else None

    def _date_at(self, at: int) -> tuple[int, _Date] | None:
        """Read as much of a date as there is: its end and its elements."""
        told, best = _Date(), None
        end = at
        while end < len(self._tokens):
            start = end
            if told != _Date():
                if not _GAP.fullmatch(
                    self._text, self._tokens[end - 1].end, self._tokens[end].start
                ):
                    break
                while start < len(self._tokens) - 1 and self._tokens[start].key in _CONNECTORS:
                    start += 1
                if start - end > 2:
                    break
            read = self._element(start, told)
            if read is None:
                break
            end, told = read
            if told.day is None or told.month is not None:
                best = end, told
        return best

    def _element(self, at: int, told: _Date) -> tuple[int, _Date] | None:
        """Read the next element of a date."""
        if self._tokens[at].kind == "number" and (found := self._number(at, told)):
            return found
        for end, key in self._phrases(at, 4):
            has_part = told.month is not None or told.season is not None
            named = self._words.months.get(key)
            if not has_part and (named or key in self._words.short_months):
                month, languages = named or (self._words.short_months[key], frozenset())
                return end, replace(
                    told, month=month, key=key, languages=languages, is_short=named is None
                )
            if not has_part and told.day is None and key in _SEASONS:
                return end, replace(told, season=_SEASONS[key], key=key)
            unit, offset = self._words.relative.get(key, ("", 0))
            if told.year is None and unit == "year":
                return end, replace(told, year=self._now.year + offset)
        return None

    def _number(self, at: int, told: _Date) -> tuple[int, _Date] | None:
        """Read a year or a day."""
        token = self._tokens[at]
        suffix = self._tokens[at + 1].key if at + 1 < len(self._tokens) else ""
        if told.year is None and (year := self._year_at(at)):
            return at + 1 + (suffix in _YEAR_SUFFIXES), replace(told, year=year)
        is_close = at + 1 < len(self._tokens) and self._is_close(at + 1)
        is_month = is_close and suffix in {"月", "월"}
        if told.day is None and told.season is None and len(token.key) <= 2 and not is_month:
            day = int(token.key)
            end = at + 1 + (is_close and suffix in _DAY_SUFFIXES)
            return (end, replace(told, day=day)) if 1 <= day <= 31 else None
        return None

    def _year_at(self, at: int) -> int | None:
        """Return the year that a token is: four digits that stand alone."""
        token = self._tokens[at]
        is_four = len(token.key) == 4 and token.key.isascii()
        if not is_four or not FIRST_YEAR <= int(token.key) <= self._now.year + 1:
            return None
        year = int(token.key)
        if _STUCK_BEFORE.search(self._text, 0, token.start) or _STUCK_AFTER.match(
            self._text, token.end
        ):
            return None
        following = self._tokens[at + 1] if at + 1 < len(self._tokens) else None
        if following and following.key in _UNITS_AFTER and year not in self._years():
            return None
        return year

    def _dated(self, at: int, end: int, told: _Date) -> TimeExpression | None:
        """Make the expression of a date, if it is one."""
        if told.year is not None:
            if told.season is not None and not self._is_season(at, told):
                return None
            period = self._period_of(told)
            return None if period is None else TimeExpression(at, end, (period,), str(period))
        if told.is_short or not self._stands_out(at, end, told):
            return None
        periods = [
            self._period_of(_Date(y, told.month, told.day, told.season)) for y in self._years()
        ]
        known = tuple(period for period in periods if period)
        return TimeExpression(at, end, known, self._text_of(at, end)) if known else None

    def _is_season(self, at: int, told: _Date) -> bool:
        """Tell the Italian summer from a real estate."""
        before = self._tokens[at - 1].key if at else "l"
        return told.key != "estate" or self._tokens[at].key != "estate" or before in _THE | {"in"}

    def _stands_out(self, at: int, end: int, told: _Date) -> bool:
        """Return whether a month or a season without a year is meant as one."""
        if self._is_all(at, end):
            return True
        is_other_word = told.key in _SEASONS_ELSEWHERE
        if any(token.kind == "syllable" for token in self._tokens[at:end]):
            return told.month is not None
        if not self._ends_there(end):
            return False
        for start in range(max(0, at - 3), at):
            said = self._joined(start, at)
            said = said.removesuffix(" the").removesuffix(" le").removesuffix(" el")
            if told.season is not None and not is_other_word and said in _IN_SEASON:
                return True
            if any(said in _IN.get(language, ()) for language in told.languages):
                return True
        # A day with a month in full, as "july 4th", is nothing else.
        return told.day is not None and self._tokens[at].key not in {"may", "march", "mars"}

    def _ends_there(self, end: int) -> bool:
        """Return whether no noun follows: people in winter clothes are in any season."""
        if end == len(self._tokens) or self._tokens[end].key in _AFTER_TIME:
            return True
        between = self._text[self._tokens[end - 1].end : self._tokens[end].start]
        return regex.search(r"[^\s\-'’]", between) is not None

    def _period_of(self, told: _Date) -> Period | None:
        """Return the days of a date; None if there is no such day."""
        year = told.year
        assert year is not None
        if told.season is not None:
            month = _SEASON_MONTHS[told.season]
            if self._is_southern():
                month = (month + 5) % 12 + 1
            since = date(year, month, 1)
            before = since
            for _ in range(3):
                before = _next_month(before)
            return Period(since, before)
        if told.month is None:
            return Period(date(year, 1, 1), date(year + 1, 1, 1))
        try:
            since = date(year, told.month, told.day or 1)
        except ValueError:
            return None
        return Period(since, since + timedelta(1) if told.day else _next_month(since))

    def _period(self, at: int, end: int, since: date | None, before: date | None) -> TimeExpression:
        period = Period(since, before)
        return TimeExpression(at, end, (period,), str(period))

    def _phrases(self, at: int, most: int) -> Iterator[tuple[int, str]]:
        return phrases(self._tokens, at, most, _GAP, self._text)

    def _joined(self, start: int, end: int) -> str:
        return join(self._tokens[start:end])

    def _text_of(self, start: int, end: int) -> str:
        return self._text[self._tokens[start].start : self._tokens[end - 1].end]

    def _is_close(self, at: int) -> bool:
        return at > 0 and self._tokens[at - 1].end == self._tokens[at].start


_OTHER_WORDS = keys("hier|eilen|heri|till date|til dato|ma|ieri")
"""Days that are other words in another language: here, hurry."""


_NUMERALS = {ord(numeral): str(n) for n, numeral in enumerate("一二三四五六七八九", 1)}
_NUMERALS |= {ord("两"): "2", ord("十"): "10"}

_MORE_MONTHS = {
    "ru": "январе|феврале|марте|апреле|мае|июне|июле|августе|сентябре|октябре|ноябре|декабре",
    "uk": "січні|лютому|березні|квітні|травні|червні|липні|серпні|вересні|жовтні|листопаді|грудні",
    "cs": "lednu|únoru|březnu|dubnu|květnu|červnu|červenci|srpnu|září|říjnu|listopadu|prosinci",
    "pl": "styczniu|lutym|marcu|kwietniu|maju|czerwcu|lipcu|sierpniu|wrześniu|październiku|"
    "listopadzie|grudniu",
}
"""Months after "in", which CLDR does not have."""


@cache
def _words() -> _Words:
    months: dict[str, tuple[int, frozenset[str]]] = {}
    short: dict[str, int] = {}
    weekdays: dict[str, int] = {}
    relative: dict[str, tuple[str, int]] = {}
    units: dict[str, dict[str, str]] = {}
    ago: dict[str, frozenset[str]] = {}
    for language, told in query_words()["time"].items():
        more = enumerate(_MORE_MONTHS.get(language, "").split("|"), 1)
        named = told["months"] | {key_of(word): month for month, word in more if word}
        for word, month in named.items():
            known = months.get(word, (month, frozenset()))
            if known[0] == month:
                months[word] = month, known[1] | {language}
        for word, month in told["short_months"].items():
            short.setdefault(word, month)
        for word, weekday in told["weekdays"].items():
            weekdays.setdefault(word, weekday)
        for phrase, (unit, offset) in told["relative"].items():
            relative.setdefault(phrase, (unit, offset))
        units[language] = told["units"]
        for word in told["ago"]:
            ago[word] = ago.get(word, frozenset()) | {language}
    return _Words(months, short, weekdays, relative, units, ago)


def _next_month(first: date) -> date:
    return (first + timedelta(31)).replace(day=1)


def _moved(day: date, unit: str, offset: int) -> date:
    """Move a day by units, to the first day of months and years."""
    if unit in {"day", "week"}:
        return day + timedelta(offset * (7 if unit == "week" else 1))
    months = day.year * 12 + day.month - 1 + offset * (12 if unit == "year" else 1)
    return date(months // 12, months % 12 + 1, 1)


def _day(day: date | None, offset: int) -> str:
    return "" if day is None else str(day + timedelta(offset))
