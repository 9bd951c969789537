"""Open or create the library that a command writes to, with its encoder."""

import os
from pathlib import Path

from retrieval.encoders.base import Encoder
from retrieval.encoders.deferred import deferred_encoder
from retrieval.encoders.trust import trust_named_encoder
from retrieval.errors import UsageError
from retrieval.library import (
    Library,
    create_library,
    is_table,
    library_exists,
    open_library,
    trust_named_catalog,
)

ENCODER_VARIABLE = "MMSEARCH_ENCODER"
"""Environment variable: the encoder of new libraries."""


def library_and_encoder(
    path: Path,
    encoder_name: str | None,
    space_id: str | None,
    device: str,
    has_paths: bool,
    language: str | None = None,
    catalog: str | None = None,
) -> tuple[Library, Encoder]:
    """Open or create the library, with the encoder of the space to write to.

    The encoder of an existing space is loaded when it is first used.

    Args:
        path: Directory of the library.
        encoder_name: Name of the encoder. (default: the library's; for a new library that of
            `MMSEARCH_ENCODER`, else `auto`)
        space_id: Id of the space, or `new` to add one. (default: the default space)
        device: Device of the encoder.
        has_paths: Whether there is something to index; only then a library is created.
        language: Code of the language that `auto` chooses the encoder of a new space for.
        catalog: URL of the database for the catalog of a new library. (default: a file of it)

    Raises:
        NotFoundError: The library does not exist and `has_paths` is false.
        UsageError: Invalid combination of options, or unknown space.
        SpaceMismatchError: The encoder is not that of the space.
        EncoderUnavailableError: The encoder cannot be loaded.
        LibraryError: The library cannot be opened or written.
    """
    from api.cli import console
    from retrieval.encoders.registry import AUTO, choose_encoder, load_encoder

    if is_table(path):
        raise UsageError(
            f"{path} is a table, which only runs with `--cluster` write: `mmsearch index SOURCE "
            "--cluster local --library lance:...`, again whenever there is something new."
        )
    if not library_exists(path):
        if not has_paths:
            open_library(path)  # raises: there is nothing to update
        if space_id not in {None, "new"}:
            raise UsageError(f"{path} is not a library yet, so it has no space {space_id!r}.")
        choice = choose_encoder(encoder_name or os.environ.get(ENCODER_VARIABLE) or AUTO, language)
        console.err.print(f"Encoder: {choice.name} ({choice.reason}).", markup=False)
        encoder = load_encoder(choice.name, device)
        return create_library(path, encoder.space, catalog=catalog), encoder
    if catalog is not None:
        trust_named_catalog(path, catalog)
    library = open_library(path, upgrade=True)
    if space_id == "new":
        if encoder_name is None:
            raise UsageError("`--space new` needs `--encoder NAME`.")
        encoder = load_encoder(choose_encoder(encoder_name, language).name, device)
        library.add_space(encoder.space)
        return library, encoder
    space = library.space(space_id)
    if encoder_name is None or encoder_name in {AUTO, space.encoder}:
        if encoder_name is not None:
            trust_named_encoder(encoder_name)
        return library, deferred_encoder(library, space, device)
    encoder = load_encoder(encoder_name, device)
    library.require_space(encoder.space, among=space)
    return library, encoder


def other_encoders(library: Library, space_id: str, device: str) -> list[Encoder]:
    """List the encoders of the spaces but one, loaded when they are first used.

    Spaces of added vectors have none.
    """
    from retrieval.spaces import ordered_space_ids

    others = [library.space(one) for one in ordered_space_ids(library) if one != space_id]
    return [deferred_encoder(library, one, device) for one in others if not one.is_given]
