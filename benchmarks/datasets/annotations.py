"""Find, decode and parse annotation files, with errors that name file and line."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.datasets.builder import is_file
from retrieval.errors import NotFoundError, UsageError

ALL_SPLITS = "all"

NAME_THE_ENCODING = "Name the encoding after the path: '?encoding=NAME', such as cp1252 or gb18030."

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def annotation_file(path: Path, patterns: Sequence[str], fetch_hint: str) -> Path:
    """Return the file itself, or the one file in a folder whose name matches a pattern.

    Raises NotFoundError with the hint if no file matches, UsageError if several do.
    """
    if is_file(path):
        return path
    if not path.is_dir():
        raise NotFoundError(f"{path} does not exist. {fetch_hint}")
    for pattern in patterns:
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in found)
            raise UsageError(f"{path} has several annotation files: {names}. Choose one of them.")
        if found:
            return found[0]
    lack = f"holds no {' or '.join(patterns)}" if patterns else "is a folder, not a file"
    raise NotFoundError(f"{path} {lack}. {fetch_hint}")


def image_folder(
    chosen: str | None, candidates: Iterable[Path], names: Sequence[str], fetch_hint: str
) -> Path:
    """Find the folder of the images: the chosen one, else the first that contains one of them.

    Args:
        chosen: Folder given by the user, if any.
        candidates: Folders to search otherwise.
        names: Image files, relative to the folder.
        fetch_hint: End of the error message.

    Raises:
        NotFoundError: No folder contains an image.
    """
    folders = [Path(chosen).expanduser()] if chosen else list(dict.fromkeys(candidates))
    for folder in folders:
        if any(is_file(folder / name) for name in names):
            return folder
    raise NotFoundError(
        f"Images not found: no {names[0]} in {', '.join(map(str, folders))}. {fetch_hint} "
        "If they are elsewhere, add '?images=FOLDER' to the path."
    )


def read_text(path: Path, encoding: str | None = None, *, way_out: str = "") -> str:
    """Decode a file: with `encoding`, else by its byte order mark, else as UTF-8.

    Raises UsageError with the line that cannot be decoded, and `way_out` at its end.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    marked = next((e for mark, e in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding or marked)
    except LookupError as error:
        raise UsageError(f"Unknown encoding '{encoding}' for {path}: {error}.") from error
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = content.count(b"\n", 0, start) + 1
        raise UsageError(f"{path}:{line}: not {encoding or marked}. {way_out}".rstrip()) from error


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines that are not blank, with their numbers.

    Unlike `str.splitlines`, splits only at line ends: captions contain U+2028 and the like.
    """
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if line.strip():
            yield number, line


def read_json(path: Path) -> dict[str, Any]:
    """Parse a file with one JSON object."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON that can be read: {error}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}:1: expected a JSON object, found {type(content).__name__}.")
    return content


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parse a JSON Lines file (UTF-8): yields (`name:line`, object), skips blank lines.

    It is read line by line, since text collections can be larger than memory.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    with file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not content.strip():
                continue
            try:
                row = json.loads(content.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise UsageError(f"{path}:{number}: not UTF-8: {error.reason}.") from error
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}:{number}: not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise UsageError(f"{path}:{number}: expected a JSON object.")
            yield f"{path.name}:{number}", row


class SplitError(UsageError):
    """A split that a dataset does not have; `splits` are those that it has."""

    def __init__(self, message: str, splits: Iterable[str]) -> None:
        super().__init__(message)
        self.splits = tuple(splits)


def choose_split(sizes: Mapping[str, int], wanted: str | None, where: Path) -> str | None:
    """Choose the split to load: the requested one, else the only one, else `test`.

    `sizes` has the number of images or queries of each split; it is empty for formats without
    splits. `all` means all splits. Raises SplitError with a list of the splits.
    """
    if not sizes:
        if wanted is not None:
            raise SplitError(f"{where} has no splits: leave '{wanted}' out.", ())
        return None
    if wanted is None:
        if len(sizes) == 1:
            return next(iter(sizes))
        if "test" in sizes:
            return "test"
    elif wanted in sizes or wanted == ALL_SPLITS:
        return wanted
    problem = f"{where} has no split '{wanted}'" if wanted else f"{where} needs a split"
    listing = ", ".join(f"{name} ({size})" for name, size in sizes.items())
    raise SplitError(f"{problem}. There are: {listing}; or '{ALL_SPLITS}'.", sizes)


def in_split(row_split: str | None, chosen: str | None) -> bool:
    """Return whether an entry belongs to the split that `choose_split` returned."""
    return chosen is None or chosen in {ALL_SPLITS, row_split}


def only_language(wanted: str | None, there_is: str | None, where: Path) -> str | None:
    """Check the language of a format with one or no language; UsageError for any other."""
    if wanted is not None and wanted != there_is:
        if there_is:
            raise UsageError(f"{where} has no language '{wanted}': it is in '{there_is}' only.")
        raise UsageError(f"{where} does not name languages; leave '{wanted}' out.")
    return there_is
