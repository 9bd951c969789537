"""`mmsearch texts`: what models found in a file."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.enrichment import TITLES, units_of
from api.cli.options import JsonOption, LibraryOption, YesOption, option, print_json
from retrieval.errors import NotFoundError, UsageError
from retrieval.recognition.base import SETTINGS, Task
from retrieval.recognition.transcripts import WRITERS, TranscriptForm

_NOWHERE: dict[str, Any] = {"page": None, "time_s": None}

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrieval.catalog import Enrichment
    from retrieval.library import Library


class Forgettable(StrEnum):
    """Texts that can be forgotten, as a library remembers their models."""

    OCR = "ocr"
    SPEECH = "speech"
    CAPTIONS = "captions"


def texts(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="An indexed file.")] = None,
    library: LibraryOption = None,
    transcript: Annotated[
        TranscriptForm | None,
        option(
            "--transcript", "vtt|srt|txt", "Print what is said in it as WebVTT, SubRip or text."
        ),
    ] = None,
    forget: Annotated[
        Forgettable | None,
        option(
            "--forget",
            "ocr|speech|captions",
            "Forget all texts of a kind in the library, and look for no more of them.",
        ),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the texts that models found in a file: in its pictures, in speech, as captions."""
    from api.http.schemas import FoundTextSchema, valid_text
    from indexer.sources import absolute
    from retrieval.library import default_library_path, open_library

    if (path is None) == (forget is None) or (transcript is not None and forget is not None):
        raise UsageError("Name a file, or texts to `--forget` in the whole library.")
    opened = open_library(library or default_library_path())
    if forget is not None:
        task = next(task for task, setting in SETTINGS.items() if setting == forget)
        _forget(opened, task, yes=yes, as_json=as_json)
        return
    assert path is not None
    where = absolute(path)
    found = _found_in(opened, where)
    if transcript is not None:
        if as_json:
            raise UsageError("--transcript and --json each print another form: leave one out.")
        _print_transcript(path, [one for _, one in found], transcript)
        return
    if as_json:
        listed = [told | FoundTextSchema.of(one).model_dump(mode="json") for told, one in found]
        print_json({"path": valid_text(where), "texts": listed})
        return
    _print(found)


def _found_in(opened: "Library", where: str) -> "list[tuple[dict[str, Any], Enrichment]]":
    """List what was found in a file, by task and then by page and time, with page and time."""
    with opened.catalog.snapshot() as snapshot:
        items = snapshot.items_of_ids(sorted(snapshot.items_in([where]).values()))
        file = snapshot.indexed_at([where]).get(where)
        if not items and file is None:
            failure = next((one.failure for one in snapshot.failures() if one.path == where), None)
            if failure is not None:
                raise UsageError(
                    f"{where} could not be indexed, so no model has looked at it: {failure}. "
                    "`mmsearch index --retry-failed` tries it again."
                )
            raise NotFoundError(f"{opened.location} has no file {where}.")
        found: dict[tuple[Task, str], tuple[dict[str, Any], Enrichment]] = {}
        for item in items.values():
            for one in snapshot.enrichments_of(item):
                place = item if one.task.is_of_pictures else None
                told = {name: getattr(place, name, None) for name in ("page", "time_s")}
                found.setdefault((one.task, one.key), (told, one))
        if not items and file is not None and not opened.is_table:  # a sound without texts
            heard = snapshot.enrichments(Task.SPEECH, [file.content_hash])
            found |= {(one.task, one.key): (_NOWHERE, one) for one in heard.values()}
    order = list(Task)
    return sorted(
        found.values(),
        key=lambda one: (order.index(one[1].task), one[0]["page"] or 0, one[0]["time_s"] or 0.0),
    )


def _forget(opened: "Library", task: Task, *, yes: bool, as_json: bool) -> None:
    from api.cli import console
    from indexer.enrichment.tasks import forget_texts

    with opened.catalog.snapshot() as snapshot:
        counts = snapshot.enrichment_counts().get(task)
    if not yes and counts is not None:
        typer.confirm(
            f"Forget what was found in {counts.with_text:,} of {counts.looked_at:,} "
            f"{units_of(task, counts.looked_at)}? Only looking at all of them again would bring it "
            "back.",
            abort=True,
            err=True,
        )
    done = forget_texts(opened, task)
    if as_json:
        print_json({"library": opened.location, "forgotten": vars(done)})
        return
    console.out.print(
        f"Forgot the {TITLES[task].lower()} of {done.with_text:,} of {done.looked_at:,} "
        f"{units_of(task, done.looked_at)}, {done.passages:,} passages. Nothing of the kind is "
        "looked for from now on.",
        markup=False,
    )


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
