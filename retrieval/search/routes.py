"""Choose the spaces in which a query is answered, by what their encoders take."""

from collections.abc import Callable, Collection, Sequence
from itertools import product

from retrieval.encoders.base import Space
from retrieval.encoders.modalities import CLAP, modalities_of
from retrieval.errors import UsageError
from retrieval.library import Library
from retrieval.media import Modality
from retrieval.spaces import ordered_space_ids

Route = tuple[str, Modality]
"""The id of a space, and what is found in it."""

HasRows = Callable[[str, Modality], bool]
"""Tells whether a space has vectors of a modality."""


def choose_routes(
    modalities: Sequence[Modality],
    needed: Collection[Modality],
    spaces: Sequence[Space],
    has_rows: HasRows,
) -> list[Route]:
    """Choose a space for each modality that is wanted: the default one, if its encoder takes it.

    Else it is the first other one that has vectors of it. What only encoders find that do not take
    the query is left out; so is sound that no space has, if other modalities are wanted, too.

    Args:
        modalities: What is to be found.
        needed: What the parts of the query are, which the encoder must take.
        spaces: Those that may be searched, the default one first.
        has_rows: Tells of vectors.
    """
    default = spaces[0]
    routes = []
    for wanted in modalities:
        able = [space for space in spaces if _takes(space, {wanted, *needed})]
        chosen = [s for s in able if s is default or (not s.is_given and has_rows(s.id, wanted))]
        is_elsewhere = any(
            _takes(s, {wanted}) and has_rows(s.id, wanted)
            for s in spaces[1:]
            if not s.is_given and not chosen
        )
        if chosen:
            routes.append((chosen[0].id, wanted))
        elif is_elsewhere or not _takes(default, needed):
            continue
        elif wanted is not Modality.AUDIO or len(modalities) == 1:
            routes.append((default.id, wanted))
    return routes


def default_spaces(library: Library) -> tuple[str, ...]:
    """Return the ids of the spaces that searches use: the default one, and a first other one.

    The other is for each modality that the encoder of the default one does not take.
    """
    spaces = [library.space(space_id) for space_id in ordered_space_ids(library)]
    chosen = [spaces[0]]
    for modality in Modality:
        if not any(_takes(space, {modality}) for space in chosen):
            able = [s for s in spaces if not s.is_given and _takes(s, {modality})]
            chosen += able[:1]
    return tuple(space.id for space in chosen)


def routes_in(
    spaces: Sequence[Space], modalities: Sequence[Modality], needed: Collection[Modality]
) -> list[Route]:
    """List what is asked of spaces that a query names: all modalities of those that take it.

    Where none takes it, all of them: their engines say what they do not take.
    """
    able = [space for space in spaces if _takes(space, needed)] or spaces
    return [(space.id, modality) for modality, space in product(modalities, able)]


def require_takers(needed: Collection[Modality], spaces: Sequence[Space]) -> None:
    """Raise UsageError for what none of some spaces takes, and say how to add one that does."""
    for modality in sorted(needed):
        if not any(_takes(space, {modality}) for space in spaces):
            name = f"{CLAP}NAME_OR_DIR" if modality is Modality.AUDIO else "auto"
            raise UsageError(
                f"No encoder of this library takes {modality}. `mmsearch index --encoder {name} "
                "--space new` adds one that does."
            )


def _takes(space: Space, modalities: Collection[Modality]) -> bool:
    return modalities_of(space.encoder).issuperset(modalities)
