"""How a source is read: what is walked, and which columns of its tables are meant."""

import codecs
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from indexer.object_scan import require_reachable
from indexer.scan import WalkOptions
from retrieval.catalog.paths import below, is_at_or_below, is_there, is_virtual
from retrieval.errors import NotFoundError, UsageError
from retrieval.library import Library
from retrieval.media import MediaKind
from retrieval.objects.paths import given_uri, is_object, is_uri
from retrieval.objects.trust import trust_uri
from retrieval.relocation import way_beside

Changes = Mapping[str, Any]
"""New values of some options, by name."""


@dataclass(frozen=True)
class SourceOptions(WalkOptions):
    """Options of a source, remembered by the library.

    text_column, image_column: of tables; None: found by their usual names. text_encoding: of texts
    and tables that are not UTF-8; None: detected. max_pixels: limit of a picture's pixels; None:
    `default_max_pixels`.
    """

    text_column: str | None = None
    image_column: str | None = None
    text_encoding: str | None = None
    max_pixels: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Give what differs from the defaults, so that what was not chosen follows new ones."""
        chosen = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        if "kinds" in chosen:
            chosen["kinds"] = sorted(self.kinds)
        return chosen

    @classmethod
    def from_json(cls, chosen: Mapping[str, Any]) -> "SourceOptions":
        """Make them of what `to_json` gave."""
        return cls(**parse_changes(chosen))


def parse_changes(given: Mapping[str, Any]) -> Changes:
    """Leave out options that are None, and read a list of kinds, or their names with commas.

    Raises UsageError for an unknown kind or encoding.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    if "text_encoding" in changes:
        try:
            is_text = codecs.lookup(changes["text_encoding"])._is_text_encoding
        except LookupError:
            is_text = False
        if not is_text:
            raise UsageError(
                f"There is no text encoding '{changes['text_encoding']}'; names are such as "
                "cp1250, big5, shift_jis, euc_kr, mac_roman."
            )
    if "kinds" in changes:
        kinds = changes["kinds"]
        names = kinds.split(",") if isinstance(kinds, str) else kinds
        wrong = [name for name in names if name.strip() not in set(MediaKind)]
        if wrong:
            raise UsageError(f"There is no kind {wrong[0]!r}; there are: {', '.join(MediaKind)}.")
        changes["kinds"] = frozenset(MediaKind(name.strip()) for name in names)
    return changes


def choose_sources(
    library: Library, paths: Sequence[str | os.PathLike[str]], changes: Changes | None = None
) -> dict[str, SourceOptions]:
    """Say what to walk and how: absolute paths, none below another one, with their options.

    No paths: all sources. Options that `changes` omits stay as remembered, there or above.
    Raises NotFoundError for a path that does not exist, or a new URI that cannot be reached.
    """
    with library.catalog.snapshot() as snapshot:
        return choose_among(snapshot.source_options(), paths, changes)


def choose_among(
    known: Mapping[str, dict[str, Any] | None],
    paths: Sequence[str | os.PathLike[str]],
    changes: Changes | None = None,
) -> dict[str, SourceOptions]:
    """As `choose_sources`, with the known sources and their options as a library stores them."""
    remembered = {path: SourceOptions.from_json(chosen or {}) for path, chosen in known.items()}
    roots = [absolute(path) for path in paths] if paths else list(remembered)
    for root in roots if paths else ():
        if is_uri(root) and root not in remembered:
            require_reachable(root)
        if not (os.path.lexists(root) or is_object(root)):
            raise NotFoundError(
                f"There is nothing at {root}. If it was deleted or is not mounted now, what "
                "was indexed from it is still in the library; remove it with `mmsearch remove`. "
                "If it was moved or renamed, name its new path."
            )
    kept: list[str] = []
    for root in sorted(set(roots), key=below):
        if not kept or not is_at_or_below(root, kept[-1]):
            kept.append(root)
    return {root: replace(_nearest(root, remembered), **(changes or {})) for root in kept}


def remember_sources(library: Library, sources: Mapping[str, SourceOptions]) -> None:
    """Keep sources and their options for later runs; needs the right to write."""
    with library.catalog.transaction() as transaction:
        transaction.add_sources({root: options.to_json() for root, options in sources.items()})
        transaction.place_sources(
            {root: way_beside(library.path, root) for root in sources if is_there(root)}
        )


def absolute(path: str | os.PathLike[str]) -> str:
    """Spell a path from the root of the file system, or a URI; links stay as they are named.

    What names an item that is of no file stays as it is. Raises UsageError for a URI that cannot be
    a source.
    """
    if isinstance(path, str) and is_virtual(path):
        return path
    if (uri := given_uri(path)) is not None:
        return uri
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def trust_named(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Allow this program to connect to the URIs among paths that its user has named.

    Raises UsageError for a URI that cannot be a source.
    """
    for path in paths:
        if (uri := given_uri(path)) is not None:
            trust_uri(uri)


def source_above(path: str, sources: Sequence[str]) -> str:
    """Return the source that a path was found in."""
    return max((source for source in sources if is_at_or_below(path, source)), key=len)


def _nearest(root: str, remembered: dict[str, SourceOptions]) -> SourceOptions:
    above = [path for path in remembered if is_at_or_below(root, path)]
    return remembered[max(above, key=len)] if above else SourceOptions()
