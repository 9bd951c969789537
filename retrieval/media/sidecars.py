"""Find and read sidecars: XMP files of photo programs, JSON files of photo services."""

import itertools
import json
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace

from retrieval.errors import UnreadableFileError
from retrieval.media import FIRST_SECOND, LAST_SECOND, Metadata
from retrieval.media.captions import with_caption
from retrieval.media.dates import Moment
from retrieval.media.exif import joined, metadata_of
from retrieval.media.xmp import Description, read_xmp
from retrieval.objects.opening import open_path
from retrieval.objects.paths import shard_of

SIDECAR_ENDINGS = (".xmp", ".json")

_MOST_BYTES = 4 << 20
_LONGEST_TAKEOUT_NAME = 46
"""Characters that Google Takeout keeps of a sidecar's name, without `.json`."""
_TAKEOUT = ".supplemental-metadata"
_EDITED = (
    "-edited",
    "-bearbeitet",
    "-modifié",
    "-editado",
    "-modificato",
    "-bewerkt",
    "-edytowane",
)
_DAY_S = 86_400


class SidecarNames:
    """The sidecars of a folder, to be found by the names of the files that they are about."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_name: dict[str, list[str]] = {}
        self._cut: list[tuple[str, str]] = []
        for name in sorted(names):
            stem, ending = os.path.splitext(name.lower())  # noqa: PTH122 - may not be valid text
            self._by_name.setdefault(stem + ending, []).append(name)
            if ending == ".json":
                self._cut.append((stem, name))
        self._cut.sort()

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def of(self, name: str) -> tuple[str, ...]:
        """Return the names of a file's sidecars: `a.jpg.xmp` before `a.xmp`, then those in JSON."""
        whole = name.lower()
        stem, ending = os.path.splitext(whole)  # noqa: PTH122
        found = [
            sidecar
            for about in dict.fromkeys((whole, stem))
            for sidecar in self._by_name.get(f"{about}.xmp", ())
        ]
        for about, number in _originals(stem, ending):
            found += self._takeout(about, number)
        return tuple(dict.fromkeys(found))

    def _takeout(self, about: str, number: str) -> list[str]:
        """Find the JSON files about a name; their own may be cut behind 46 characters."""
        exact = [
            f"{about}{number}.json",
            f"{about}{_TAKEOUT}{number}.json",
            f"{(about + _TAKEOUT)[:_LONGEST_TAKEOUT_NAME]}{number}.json",
            f"{about[:_LONGEST_TAKEOUT_NAME]}{number}.json",
        ]
        found = [sidecar for name in exact for sidecar in self._by_name.get(name, ())]
        if found:
            return found
        whole = about + _TAKEOUT
        start = bisect_left(self._cut, (about, ""))
        for stem, name in itertools.islice(self._cut, start, None):
            if not stem.startswith(about):
                break
            cut = stem.removesuffix(number)
            if stem.endswith(number) and len(cut) > len(about) and whole.startswith(cut):
                found.append(name)
        return found


def _originals(stem: str, ending: str) -> Iterable[tuple[str, str]]:
    """Yield the names that a JSON file may give a file, each with the number of a copy.

    Takeout numbers `a(1).jpg` and its `a.jpg(1).json`; what was edited shares the original's.
    """
    yield stem + ending, ""
    for edited in _EDITED:
        stem = stem.removesuffix(edited)
    yield stem + ending, ""
    name, bracket, rest = stem.rpartition("(")
    if bracket and rest.endswith(")") and rest[:-1].isdecimal():
        for edited in _EDITED:
            name = name.removesuffix(edited)
        yield name + ending, f"({rest}"


def with_sidecars(metadata: Metadata, paths: Sequence[str]) -> tuple[Metadata, tuple[str, ...]]:
    """Join what a file and its sidecars say, and tell what of these could not be read.

    What a person changed in a program stands in the XMP file: its date, place, title, rating and
    label come first, as in Immich, digiKam and darktable. A service's JSON adds what the file does
    not say; its date counts before the file's where they differ by more than a day, as it was
    changed there then. Words, keywords and persons are united. Of a member of a shard they are its
    captions, see `retrieval.media.captions`.

    Args:
        metadata: of the file itself.
        paths: of its sidecars, the most important first.

    Returns:
        The metadata, and notes.
    """
    notes = []
    for path in reversed(paths):
        name = os.path.basename(path)  # noqa: PTH119
        try:
            data = _content(path)
            if shard_of(path) is not None:
                is_json = path.lower().endswith(".json")
                metadata = with_caption(metadata, data, is_json=is_json)
            elif path.lower().endswith(".json"):
                told = _of_json(data)
                metadata = _with_service(metadata, told) if told else metadata
            else:
                metadata = joined(metadata_of([("sidecar", read_xmp(data))]), metadata)
        except (OSError, UnreadableFileError, ValueError, RecursionError) as error:
            notes.append(f"its sidecar {name} cannot be read ({str(error)[:100]})")
    return metadata, tuple(notes)


def _content(path: str) -> bytes:
    with open_path(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB")
    return data


def _with_service(metadata: Metadata, told: Metadata) -> Metadata:
    if metadata.taken_at is not None and told.taken_at is not None:
        is_same = abs(metadata.taken_at - told.taken_at) <= _DAY_S
        dated = metadata if is_same else told
        told = replace(
            told,
            taken_at=dated.taken_at,
            taken_local=dated.taken_local,
            date_source=dated.date_source,
        )
        metadata = replace(metadata, taken_at=None)
    return joined(metadata, told)


def _of_json(data: bytes) -> Metadata | None:
    """Read the JSON that Google Takeout writes, and plain fields of other services; or None."""
    told = json.loads(data)
    if not isinstance(told, dict):
        return None
    taken = told.get("photoTakenTime")
    dates: dict[str, Moment] = {}
    if isinstance(taken, dict):
        try:
            seconds = int(str(taken.get("timestamp", "")))
        except ValueError:
            seconds = 0
        if seconds and FIRST_SECOND <= seconds <= LAST_SECOND:
            dates["original"] = (seconds, None)
    # "title" is the name of the file; "creationTime" when it was uploaded.
    described = Description(
        dates,
        position=_place_of(told.get("geoData")) or _place_of(told.get("geoDataExif")),
        descriptions=[_text_of(told.get("description")), _text_of(told.get("caption"))],
        keywords=_texts_of(told.get("tags")) + _texts_of(told.get("keywords")),
        persons=_texts_of(told.get("people")),
    )
    return metadata_of([("sidecar", described)])


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts_of(value: object) -> list[str]:
    """Return the texts, or the names of objects, in a list."""
    values = value if isinstance(value, list) else []
    named = (one.get("name") if isinstance(one, dict) else one for one in values)
    return [text for text in named if isinstance(text, str)]


def _place_of(value: object) -> tuple[float, float] | None:
    if not isinstance(value, dict):
        return None
    try:
        latitude, longitude = float(value["latitude"]), float(value["longitude"])
    except (KeyError, TypeError, ValueError):
        return None
    is_place = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude)
    return (latitude, longitude) if is_place else None
