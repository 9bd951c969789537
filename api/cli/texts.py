"""`mmsearch texts`: what models found in a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import JsonOption, LibraryOption, option, print_json
from retrieval.errors import NotFoundError, UsageError
from retrieval.recognition.base import Task
from retrieval.recognition.transcripts import WRITERS, TranscriptForm

_NOWHERE: dict[str, Any] = {"page": None, "time_s": None}

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrieval.catalog import Enrichment


def texts(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An indexed file.")],
    library: LibraryOption = None,
    transcript: Annotated[
        TranscriptForm | None,
        option(
            "--transcript", "vtt|srt|txt", "Print what is said in it as WebVTT, SubRip or text."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the texts that models found in a file: in its pictures, in speech, as captions."""
    from api.http.schemas import FoundTextSchema, valid_text
    from indexer.sources import absolute
    from retrieval.library import default_library_path, open_library

    opened = open_library(library or default_library_path())
    where = absolute(path)
    with opened.catalog.snapshot() as snapshot:
        known = sorted(snapshot.items_in([where]).values())
        items = snapshot.items_of_ids(known)
        file = snapshot.indexed_at([where]).get(where)
        if not items and file is None:
            raise NotFoundError(f"{opened.location} has no file {where}.")
        found: dict[tuple[str, str], tuple[dict[str, Any], Enrichment]] = {}
        for item in items.values():
            for one in snapshot.enrichments_of(item):
                place = item if one.task.is_of_pictures else None
                told = {name: getattr(place, name, None) for name in ("page", "time_s")}
                found.setdefault((one.task, one.key), (told, one))
        if not items and file is not None and not opened.is_table:  # a sound without texts
            heard = snapshot.enrichments(Task.SPEECH, [file.content_hash])
            found |= {(one.task, one.key): (_NOWHERE, one) for one in heard.values()}
    if transcript is not None:
        if as_json:
            raise UsageError("--transcript and --json each print another form: leave one out.")
        _print_transcript(path, [one for _, one in found.values()], transcript)
        return
    if as_json:
        listed = [
            told | FoundTextSchema.of(one).model_dump(mode="json") for told, one in found.values()
        ]
        print_json({"path": valid_text(where), "texts": listed})
        return
    _print(list(found.values()))


def _print_transcript(path: Path, found: "Sequence[Enrichment]", form: TranscriptForm) -> None:
    heard = next((one for one in found if one.task is Task.SPEECH and one.segments), None)
    if heard is None:
        raise NotFoundError(
            f"There is no transcript of {path}: `mmsearch index --transcribe NAME` writes one."
        )
    typer.echo(WRITERS[form][1](heard.segments), nl=False)


def _print(found: "Sequence[tuple[dict[str, Any], Enrichment]]") -> None:
    from api.cli import console

    for told, one in found:
        where_in = f", page {told['page']}" if told["page"] else ""
        where_in = where_in or (f", {told['time_s']:.1f} s" if told["time_s"] is not None else "")
        console.out.print(f"{one.task}{where_in} ({one.model})", style="bold", markup=False)
        for segment in one.segments:
            time = f"{segment.start_s:9.1f} s  " if segment.start_s is not None else ""
            console.out.print(f"  {time}{segment.text}", markup=False)
        if not one.segments:
            console.out.print(f"  {one.failure or 'nothing found'}", style="dim", markup=False)
    if not found:
        console.out.print(
            "No model has looked at it: see `mmsearch index --ocr`, `--transcribe`, `--captions`.",
            markup=False,
        )
