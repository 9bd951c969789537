"""Choose the space that vectors are added to, by its id, its own name, or the encoder's."""

import re
import shlex

from retrieval.encoders.base import Space
from retrieval.encoders.given import given_space, name_of_given
from retrieval.encoders.registry import LOADERS, load_encoder
from retrieval.errors import UsageError
from retrieval.files import GIVEN
from retrieval.library import Library


def choose_space(library: Library, name: str | None, dimension: int) -> Space:
    """Return the space that a name means, for vectors of a dimension; it may be new.

    Args:
        library: the library.
        name: id of a space of it; name of an encoder, which made the vectors; any other name: a
            space of added vectors. None: the default space.
        dimension: number of values of the vectors.

    Raises:
        UsageError: the space has another dimension; the name can be none.
        EncoderUnavailableError: the encoder cannot be loaded, which says what its space is.
    """
    space = _named(library, name, dimension)
    _require_dimension(space, dimension)
    return space


def _named(library: Library, name: str | None, dimension: int) -> Space:
    if name is None or name in library.space_ids():
        return library.space(name)
    known = [library.space(one) for one in library.space_ids()]
    for space in known:
        if name == space.encoder or (space.is_given and name == name_of_given(space)):
            return space
    return load_encoder(name).space if _is_encoder(name) else given_space(name, dimension)


def choose_space_of_file(
    library: Library, name: str | None, said: str | None, dimension: int
) -> Space:
    """Return the space for vectors of a file, which another model may have made.

    Args:
        library: the library.
        name: as of `choose_space`.
        said: id of the space that the file names; None: it names none.
        dimension: number of values of the vectors.

    Raises:
        UsageError: neither the user nor the file names a space that is here, and the default one is
            an encoder's; and as `choose_space`.
    """
    if name is None and said in library.space_ids():
        name = said
    default = library.space()
    if name is None and (said is not None or not default.is_given):
        whose = f"are of the space {said}, which is not here" if said else "do not say their space"
        raise UsageError(
            f"The vectors {whose}. Vectors of another model would be found by chance: if "
            f"{default.encoder} made them, give `--space {shlex.quote(default.encoder)}`; else "
            "`--space NAME`, a name that you choose for a space of their own."
        )
    return choose_space(library, name, dimension)


def space_of_new_library(name: str, dimension: int) -> Space:
    """Return the space for vectors in a library that is to be created.

    Args:
        name: name of an encoder, which made the vectors; any other: of a space of added vectors.
        dimension: number of values of the vectors.

    Raises:
        As `choose_space`.
    """
    if not _is_encoder(name):
        return given_space(re.sub(r"[^\w.-]+", "-", name)[:40] or "vectors", dimension)
    space = load_encoder(name).space
    _require_dimension(space, dimension)
    return space


def find_space(library: Library, name: str | None) -> Space:
    """Return a space of a library by its id or own name; None: the default one.

    Raises UsageError for an unknown one.
    """
    return library.space(name)


def _is_encoder(name: str) -> bool:
    kind, colon, _ = name.partition(":")
    return name in LOADERS or kind + colon in LOADERS.keys() - {GIVEN}


def _require_dimension(space: Space, dimension: int) -> None:
    if space.dimension != dimension:
        raise UsageError(
            f"The vectors have {dimension:,} dimensions, but the space {space.id} has "
            f"{space.dimension:,}. Give them a space of their own: a name that you choose."
        )
