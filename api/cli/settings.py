"""Defaults of options in TOML files: one of the user, and one in a library.

An option counts before an environment variable, that before the file of the library, and that
before the file of the user. A library may come from a stranger, so its file decides only how
results are found and shown.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
import tomli_w

from api.cli.completion import ENCODERS, MODALITIES, MODES, RERANKERS, SORTS
from retrieval.errors import LibraryError, UsageError
from retrieval.files import read_toml, write_atomically
from retrieval.search.limits import MAX_K, MAX_RERANK_BUDGET_MS, MAX_RERANK_DEPTH

VARIABLE = "MMSEARCH_CONFIG"
"""Environment variable: the user's file, in place of the one in the configuration directory."""
FILE = "config.toml"


class Setting(NamedTuple):
    """A key of the files.

    kind: type of its value. meaning: in a few words. variable: environment variable that it stands
    for; None: it is the default of the option of `mmsearch search` of the same name. in_library:
    whether a library may set it, or the values that it may set. complaint: of a value of this type,
    says what it must be, None: it is valid.
    """

    kind: type
    meaning: str
    variable: str | None = None
    in_library: bool | frozenset[str] = True
    complaint: Callable[[Any], str | None] = lambda _: None


def _between(least: float, most: float) -> Callable[[Any], str | None]:
    wanted = f"a number from {least:g} to {most:g}"
    return lambda value: None if least <= value <= most else wanted


def _one_of(names: dict[str, str], *with_more: str) -> Callable[[Any], str | None]:
    """Take one of some names; with_more: those that go on after a colon, or may do so."""
    wanted = f"one of {', '.join(names)}"

    def complaint(value: str) -> str | None:
        name, _, more = value.partition(":")
        is_whole = value in names and not value.endswith(":")
        is_valid = is_whole or (name in with_more and bool(more))
        return None if is_valid else wanted

    return complaint


def _relevance(value: str) -> str | None:
    try:
        is_valid = value == "auto" or 0 <= float(value) <= 1
    except ValueError:
        is_valid = False
    return None if is_valid else "a number from 0 to 1, or auto"


def _kinds(value: str) -> str | None:
    from api.cli.filter_options import parse_filter

    try:
        parse_filter(kind=value)
    except UsageError:
        from retrieval.media import MediaKind

        return f"a comma-separated list of {', '.join(MediaKind)}"
    return None


def _language(value: str) -> str | None:
    from retrieval.encoders.languages import language_code

    try:
        language_code(value)
    except UsageError:
        return "the code of a language, such as en, de or zh (ISO 639)"
    return None


def _encoder(value: str) -> str | None:
    kind, colon, more = value.partition(":")
    if more and kind + colon in ENCODERS:
        return None
    is_whole = value in ENCODERS and not colon
    return None if is_whole or value == "starter:1" else f"one of {', '.join(ENCODERS)}..."


SETTINGS = {
    "k": Setting(int, "number of hits", complaint=_between(1, MAX_K)),
    "kind": Setting(str, "comma-separated file kinds", complaint=_kinds),
    "modality": Setting(
        str, "modality to find: image, text, audio or any", complaint=_one_of(MODALITIES)
    ),
    "mode": Setting(str, "search mode: vector, text, hybrid or auto", complaint=_one_of(MODES)),
    "sort": Setting(
        str, "order of hits: relevance, date, date-asc or name", complaint=_one_of(SORTS)
    ),
    "min_relevance": Setting(
        str, "minimum relevance of hits, 0 to 1, or auto", complaint=_relevance
    ),
    "group": Setting(bool, "collapse by file"),
    "diversity": Setting(float, "result diversity, 0 to 1", complaint=_between(0, 1)),
    "literal": Setting(bool, "turn no words into filters or weights"),
    "verbose": Setting(bool, "print the scores"),
    "preview": Setting(bool, "show the pictures in the terminal"),
    "rerank": Setting(
        str,
        "reranker",
        in_library=frozenset({"auto", "none"}),
        complaint=_one_of(
            {**RERANKERS, "fusion": ""},
            "cross-attention",
            "fusion",
            "blip-itm",
            "late-interaction",
            "vilt",
            "vlm",
        ),
    ),
    "rerank_depth": Setting(
        int, "number of candidates to rerank", complaint=_between(1, MAX_RERANK_DEPTH)
    ),
    "rerank_budget": Setting(
        float, "maximum reranking time in milliseconds", complaint=_between(0, MAX_RERANK_BUDGET_MS)
    ),
    "update": Setting(bool, "index before a search of a folder", in_library=False),
    "device": Setting(str, "device of encoders", in_library=False),
    "library": Setting(str, "default library", "MMSEARCH_LIBRARY", in_library=False),
    "server": Setting(str, "service to search on", "MMSEARCH_SERVER", in_library=False),
    "encoder": Setting(
        str, "encoder of new libraries", "MMSEARCH_ENCODER", in_library=False, complaint=_encoder
    ),
    "captioner": Setting(
        str,
        "image-to-text model of describe and ask",
        "MMSEARCH_CAPTIONER",
        in_library=False,
    ),
    "language": Setting(
        str,
        "language that encoders are chosen for",
        "MMSEARCH_LANGUAGE",
        in_library=False,
        complaint=_language,
    ),
}


def user_file() -> Path:
    """Return the path of the user's file, which need not exist."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    try:
        return platformdirs.user_config_path("mmsearch", appauthor=False) / FILE
    except RuntimeError:  # no home directory
        return Path(os.devnull)


def read_settings(file: Path, *, of_library: bool = False) -> dict[str, Any]:
    """Read the settings of a file; {} without one.

    of_library: leave out what a library may not set and what this version does not know, and all
    of a file that cannot be read. Raises UsageError for these in a file of the user.
    """
    try:
        found = read_toml(file) if file.is_file() else {}
    except (OSError, ValueError) as error:
        if of_library:
            return {}
        raise UsageError(f"{file} cannot be read: {error}. Correct it: mmsearch config edit") from (
            error
        )
    if of_library:
        return {key: value for key, value in found.items() if _problem(key, value, True) is None}
    for key, value in found.items():
        if problem := _problem(key, value, False):
            raise UsageError(f"{file}: {problem} Correct it: mmsearch config edit")
    return found


def parse_setting(key: str, text: str, *, of_library: bool = False) -> Any:
    """Read the value of a key from the command line; raises UsageError for what it cannot be."""
    value: Any = text
    kind = SETTINGS[key].kind if key in SETTINGS else str
    if kind is bool:
        value = {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)
    elif kind in {int, float}:
        try:
            value = kind(text)
        except ValueError:
            value = text
    if problem := _problem(key, value, of_library):
        raise UsageError(problem)
    return value


def write_setting(file: Path, key: str, value: Any) -> None:
    """Change the line of a key, or add it; None removes it. Comments and other lines stay.

    Raises LibraryError where the file cannot be written.
    """
    try:
        before = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        line = re.compile(rf"\s*{re.escape(key)}\s*=")
        kept = [each for each in before if not line.match(each)]
        if value is not None:
            kept.append(tomli_w.dumps({key: value}).strip())
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, "".join(f"{each}\n" for each in kept).encode(), durable=True)
    except OSError as error:
        raise LibraryError(f"{file} cannot be written: {error.strerror}.") from error


def user_defaults() -> dict[str, Any]:
    """Read the defaults of the options of `mmsearch search` from the user's file.

    Settings that stand for environment variables become these, unless they are set.
    """
    found = read_settings(user_file())
    for key, value in found.items():
        if variable := SETTINGS[key].variable:
            os.environ.setdefault(variable, str(value))
    return {key: value for key, value in found.items() if SETTINGS[key].variable is None}


def library_defaults(library: Path) -> dict[str, Any]:
    """Read the defaults of the options of `mmsearch search` from the file of a library."""
    return read_settings(library / FILE, of_library=True)


def _problem(key: str, value: Any, of_library: bool) -> str | None:
    """Say what is wrong with a setting; None: nothing."""
    if key not in SETTINGS:
        return f"There is no setting {key!r}. There are: {', '.join(SETTINGS)}."
    setting = SETTINGS[key]
    is_number = setting.kind is float and type(value) is int
    if type(value) is not setting.kind and not is_number:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        return f"{key} takes {names[setting.kind]}, not {value!r}."
    if wanted := setting.complaint(value):
        return f"{key} takes {wanted}, not {value!r}."
    allowed = setting.in_library
    if of_library and (allowed is False or (allowed is not True and value not in allowed)):
        return f"A library cannot set {key}" + (f" to {value!r}." if allowed else ".")
    return None
