"""Recognise a source that is not there any more in what is to be indexed now.

A folder that was renamed, a drive that has another name, a library on another machine: the files
are the same, below another root. That root is found by the names and sizes of a sample of the
files, and the move by at least half of all the files being there. If the old root still exists,
the new one is a copy, and both stay.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote

from indexer.scan import FoundFile, walk
from indexer.sources import Changes, SourceOptions, absolute, choose_sources
from retrieval.catalog import FileState, KnownFile
from retrieval.catalog.paths import is_at_or_below, is_there, relative_to, reroot
from retrieval.errors import NotFoundError, UsageError
from retrieval.library import Library
from retrieval.relocation import Presence, presence_at, relocate

_MOST_SAMPLED = 1000
_MOST_PLACES = 3
"""Places that a source may be at, the likeliest, of which each is looked at whole."""


@dataclass(frozen=True)
class PossibleMove:
    """A source that is not there any more, and where its files may be now.

    is_copy: most of the files there were known before, as when a copy was indexed. is_contested:
    another such source may have been moved there as well. is_wider: the place holds more than the
    paths that are indexed.
    """

    old: str
    new: str
    presence: Presence
    is_copy: bool = False
    is_contested: bool = False
    is_wider: bool = False

    @property
    def is_clear(self) -> bool:
        """Return whether this is a move without anybody being asked."""
        return self.presence.is_most and self.doubt is None

    @property
    def doubt(self) -> str | None:
        """Say why this may be no move although most files are there."""
        if self.is_contested:
            return "another missing source fits as well"
        if self.is_copy:
            return "they were known there before"
        return "that is more than is indexed now" if self.is_wider else None


@dataclass(frozen=True)
class MoveOptions:
    """How moves are decided.

    moved_from: sources, or folders in them, that were moved to the paths that are indexed.
    not_moved: take nothing as moved. ask: about a move that is not clear; None: it is none.
    """

    moved_from: Sequence[str | os.PathLike[str]] = ()
    not_moved: bool = False
    ask: Callable[[PossibleMove], bool] | None = None


@dataclass(frozen=True)
class Moves:
    """What was done about moved sources: number of files re-rooted, and sentences for the user."""

    files: int = 0
    notes: tuple[str, ...] = ()


def follow_moves(
    library: Library,
    paths: Sequence[str | os.PathLike[str]],
    changes: Changes | None,
    options: MoveOptions,
) -> Moves:
    """Give sources that were moved to some paths, or into other sources, their new paths.

    Needs the right to write. Sources that are there, or have no files, are left alone.

    Raises:
        NotFoundError: a path does not exist, or the library knows nothing at one of `moved_from`.
        UsageError: something is at one of `moved_from`, or it cannot be told where that is now.
    """
    asked = [absolute(path) for path in options.moved_from]
    for old in asked:
        _require_moved(library, old, options)
    if options.not_moved:
        return Moves()
    missing = _samples(library, asked or missing_sources(library))
    if not missing:
        return Moves()
    places = {
        root: chosen
        for root, chosen in choose_sources(library, paths, changes).items()
        if is_there(root)
    }
    moves = _contested(library, list(_find(library, missing, places)))
    if asked:
        moves = [_chosen(library, moves, old, paths) for old in asked]
    files, notes = 0, []
    taken: set[str] = set()
    for move in sorted(moves, key=lambda move: -move.presence.same):
        is_wanted = bool(asked) or move.is_clear
        if not is_wanted and options.ask and not (move.is_contested and move.new in taken):
            is_wanted = options.ask(move)
        if is_wanted:
            taken.add(move.new)
            files += _take(library, move)
        notes.append(_describe(move, is_wanted))
    return Moves(files, tuple(notes))


def missing_sources(library: Library) -> list[str]:
    """List the sources of a library that are not there: gone, or empty folders."""
    with library.catalog.snapshot() as snapshot:
        return [path for path in snapshot.sources() if not is_there(path)]


def advice_on_missing(source: str) -> str:
    """Say what to do about a source that is not there."""
    return (
        f"{source} is not there; what was indexed from it stays. If it was moved or renamed: "
        f"`mmsearch relocate {quote(source)} NEW`; if it was deleted: `mmsearch remove "
        f"{quote(source)}`."
    )


def _require_moved(library: Library, old: str, options: MoveOptions) -> None:
    if options.not_moved:
        raise UsageError("`--moved-from` and `--not-moved` contradict each other.")
    if is_there(old):
        raise UsageError(
            f"{old} is still there, so that it was not moved. `mmsearch relocate` moves what is "
            "known of it all the same."
        )
    with library.catalog.snapshot() as snapshot:
        if next(iter(snapshot.files_below([old], "")), None) is None:
            raise NotFoundError(
                f"The library knows nothing at {old}. `mmsearch status` lists its sources."
            )


def _samples(library: Library, olds: Iterable[str]) -> dict[str, list[KnownFile]]:
    """Sample the files of each source that is not below another one, evenly; none without files."""
    samples: dict[str, list[KnownFile]] = {}
    with library.catalog.snapshot() as snapshot:
        for old in sorted(olds, key=len):
            if any(is_at_or_below(old, above) for above in samples):
                continue
            kept: list[KnownFile] = []
            step = 1
            for place, file in enumerate(
                file for file in snapshot.files_below([old], "") if file.state is FileState.INDEXED
            ):
                if place % step == 0:
                    kept.append(file)
                if len(kept) > _MOST_SAMPLED:
                    kept, step = kept[::2], 2 * step
            if kept:
                samples[old] = kept
    return samples


def _find(
    library: Library, missing: Mapping[str, list[KnownFile]], places: Mapping[str, SourceOptions]
) -> Iterable[PossibleMove]:
    """Find the best new place of each source that any of its files may be at."""
    votes = _vote(missing, places)
    with library.catalog.snapshot() as snapshot:
        for old in missing:
            found = [
                PossibleMove(old, new, presence_at(snapshot.files_below([old], ""), old, new))
                for new, _ in votes[old].most_common(_MOST_PLACES)
            ]
            best = max(found, key=lambda move: move.presence.same, default=None)
            if best and best.presence.same:
                targets = [
                    reroot(file.path, old, best.new)
                    for file in snapshot.files_below([old], "")
                    if file.state is FileState.INDEXED
                ]
                known = len(snapshot.content_hashes(targets))
                yield replace(
                    best,
                    is_copy=2 * known > best.presence.same,
                    is_wider=not any(is_at_or_below(best.new, root) for root in places),
                )


def _vote(
    missing: Mapping[str, list[KnownFile]], places: Mapping[str, SourceOptions]
) -> dict[str, Counter[str]]:
    """Count, for each source, how many sampled files suggest a place by their path and size.

    The walk ends as soon as each source has a place that most of its sample is at.
    """
    wanted: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for old, sample in missing.items():
        for file in sample:
            # A source that is a file has the place of a file.
            tail = relative_to(file.path, old)
            name = os.path.basename(tail or file.path)  # noqa: PTH119 - need not be valid text
            wanted.setdefault((name, file.size), []).append((old, tail))
    votes: dict[str, Counter[str]] = {old: Counter() for old in missing}
    undecided = set(missing)
    for root, options in places.items():
        for entry in walk(root, options):
            if not isinstance(entry, FoundFile):
                continue
            name = os.path.basename(entry.path)  # noqa: PTH119
            for old, tail in wanted.get((name, entry.size), ()):
                if tail and not entry.path.endswith(os.sep + tail):
                    continue
                new = entry.path[: -len(tail) - 1] or os.sep if tail else entry.path
                votes[old][new] += 1
                if 2 * votes[old][new] > len(missing[old]):
                    undecided.discard(old)
            if not undecided:
                return votes
    return votes


def _contested(library: Library, moves: Sequence[PossibleMove]) -> list[PossibleMove]:
    """Mark the moves of sources to one place where both cannot have been, by their files' names."""
    contested: set[str] = set()
    with library.catalog.snapshot() as snapshot:

        def names(old: str) -> set[str]:
            return {relative_to(file.path, old) for file in snapshot.files_below([old], "")}

        fit = [move for move in moves if move.presence.is_most]
        for place, move in enumerate(fit):
            for other in fit[place + 1 :]:
                if move.new == other.new and not names(move.old).isdisjoint(names(other.old)):
                    contested |= {move.old, other.old}
    return [replace(move, is_contested=move.old in contested) for move in moves]


def _chosen(
    library: Library,
    moves: Sequence[PossibleMove],
    old: str,
    paths: Sequence[str | os.PathLike[str]],
) -> PossibleMove:
    """Choose the move from a path that the user says was moved."""
    for move in moves:
        if is_at_or_below(old, move.old):
            return move
    if len(paths) == 1:
        new = absolute(paths[0])
        with library.catalog.snapshot() as snapshot:
            return PossibleMove(old, new, presence_at(snapshot.files_below([old], ""), old, new))
    raise UsageError(
        f"None of the files of {old} was found under its name. Give one path with `--moved-from`, "
        f"or use `mmsearch relocate {quote(old)} NEW`."
    )


def _take(library: Library, move: PossibleMove) -> int:
    """Re-root a source; one whose folder is there, but empty, stays as one."""
    stays = os.path.isdir(move.old)  # noqa: PTH112
    return relocate(library.catalog, library.path, move.old, move.new, keep_source=stays).files


def _describe(move: PossibleMove, is_taken: bool) -> str:
    there, files = f"{move.presence.same:,}", f"{move.presence.files:,}"
    if is_taken:
        return f"{move.old} was moved to {move.new}: {there} of its {files} files are there."
    reason = f"{move.doubt}, so" if move.presence.is_most and move.doubt else "so"
    return (
        f"{move.old} is not there, and {there} of its {files} files are at {move.new}; {reason} "
        f"nothing was changed. If it was moved: `mmsearch index {quote(move.new)} --moved-from "
        f"{quote(move.old)}`; if it was deleted: `mmsearch remove {quote(move.old)}`."
    )
