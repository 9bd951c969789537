"""`mmsearch export` and `mmsearch import`: vectors with their items, as files."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from api.cli.filter_options import WhereOption, parse_filter
from api.cli.options import (
    STOPPING,
    JsonOption,
    LibraryOption,
    complain,
    option,
    print_json,
    stop_on_signal,
)
from retrieval.library import default_library_path, library_exists, open_library

_NAMED = 10


class ModalityName(StrEnum):
    """A modality, as an option."""

    IMAGE = "image"
    TEXT = "text"


def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File to write: .npy, .parquet or .lance.")
    ],
    space: Annotated[
        str | None,
        option(
            "--space", "ID", "Id or name of the space of the vectors. (default: the default one)"
        ),
    ] = None,
    modality: Annotated[
        ModalityName | None,
        typer.Option("--modality", help="Items of one modality only. (default: both)"),
    ] = None,
    where: WhereOption = None,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export vectors with ids, paths and metadata: .npy with .jsonl, .parquet or .lance."""
    from indexer.vectors.files import sidecar_of, write_vectors
    from indexer.vectors.spaces import find_space
    from indexer.vectors.stored import stored_vectors
    from retrieval.media import Modality

    opened = open_library(library)
    chosen = find_space(opened, space)
    batches = stored_vectors(
        opened,
        chosen,
        where=parse_filter(where=where),
        modality=Modality(modality) if modality else None,
    )
    count = write_vectors(file, batches, chosen)
    if as_json:
        facts = {"file": str(file.absolute()), "space": chosen.id, "dimension": chosen.dimension}
        print_json({"library": str(opened.path), **facts, "vectors": count})
        return
    from api.cli import console

    beside = f" and {sidecar_of(file).name}" if file.suffix == ".npy" else ""
    console.out.print(
        f"Exported {count:,} vectors of {chosen.dimension:,} dimensions to {file}{beside}.",
        markup=False,
    )


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .npy, .parquet or .lance file, or a folder of clip-retrieval or autofaiss.",
        ),
    ],
    space: Annotated[
        str | None,
        option(
            "--space",
            "NAME",
            "Name for a space of these vectors, or the encoder that made them, such as starter, or "
            "the id of a space. (default: the space that the file names, or the default one if it "
            "is of added vectors; in a new library, the file's name)",
        ),
    ] = None,
    modality: Annotated[
        ModalityName | None,
        typer.Option("--modality", help="Modality of rows that do not say it. (default: image)"),
    ] = None,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import vectors with ids, paths and metadata into a space of a library."""
    from dataclasses import replace

    from api.cli import console
    from indexer.vectors.add import add_vectors
    from indexer.vectors.files import find_vectors, read_vectors
    from indexer.vectors.spaces import choose_space_of_file, space_of_new_library
    from retrieval.library import create_library
    from retrieval.media import Modality

    found = find_vectors(source)
    if modality:
        found = replace(found, modality=Modality(modality))
    path = library or default_library_path()
    if library_exists(path):
        opened = open_library(path, upgrade=True)
        chosen = choose_space_of_file(opened, space, found.space, found.dimension)
    else:
        chosen = space_of_new_library(space or source.stem, found.dimension)
        opened = create_library(path, chosen)
    with stop_on_signal(note=STOPPING) as stop, console.stage_progress(quiet=as_json) as show:
        added = add_vectors(
            opened,
            chosen,
            read_vectors(found),
            folder=source.absolute().parent,
            on_progress=lambda count: show("Vectors", count, count),
            should_stop=stop.is_set,
        )
    if as_json:
        skipped = [{"item": name, "reason": reason} for name, reason in added.skipped]
        facts = {"library": str(opened.path), "space": chosen.id, "dimension": chosen.dimension}
        counts = {"vectors": added.count, "skipped_count": added.skipped_count}
        print_json({**facts, **counts, "skipped": skipped})
    else:
        for name, reason in added.skipped[:_NAMED]:
            complain(f"{name}: left out, {reason}.")
        if added.skipped_count > _NAMED:
            complain(f"{added.skipped_count:,} vectors in all were left out.")
        console.out.print(
            f"Imported {added.count:,} vectors of {chosen.dimension:,} dimensions into the space "
            f"{chosen.id} of {opened.path}.",
            markup=False,
        )
    if stop.is_set():
        raise typer.Exit(130)
