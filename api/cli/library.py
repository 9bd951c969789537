"""`mmsearch status`, `remove`, `relocate` and `encoders`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.enrichment import TITLES
from api.cli.options import JsonOption, LibraryOption, complain, option, print_json
from api.printable import one_line
from retrieval.catalog.paths import is_there
from retrieval.errors import UsageError
from retrieval.library import open_library
from retrieval.media import MediaKind, Modality

if TYPE_CHECKING:
    from retrieval.catalog import Snapshot
    from retrieval.encoders.registry import EncoderListing


def status(
    failed: Annotated[
        bool, typer.Option("--failed", help="List the files that could not be read, with reasons.")
    ] = False,
    notes: Annotated[
        bool,
        typer.Option(
            "--notes", help="List the indexed files of which something could not be read, and what."
        ),
    ] = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a library holds."""
    from api.cli import console
    from api.http.schemas import valid_text
    from indexer.moved_sources import advice_on_missing
    from retrieval.integrity.storage import measure_storage
    from retrieval.lance.library import as_table
    from retrieval.search.routes import default_spaces

    opened = open_library(library)
    space = opened.space()
    with opened.catalog.snapshot() as snapshot:
        counts = snapshot.counts(space.id)
        items = dict(counts.items)
        for other in default_spaces(opened)[1:]:
            of_other = snapshot.counts(other).items
            items.update((m, n) for m, n in of_other.items() if n and not items[m])
        sources = snapshot.sources()
        listed = _listed_files(snapshot, failed=failed, notes=notes)
        kinds = snapshot.kinds()
        seen = snapshot.seen()
        texts = snapshot.enrichment_counts()
    missing = [source for source in sources if not is_there(source)]
    usage, settings = opened.tokens.usage(), opened.tokens.settings
    storage = measure_storage(opened)
    facts: dict[str, Any] = {
        "library": opened.location,
        "catalog": opened.catalog.dialect.location,
        "encoder": space.encoder,
        "space": space.id,
        "spaces": opened.space_ids(),
        "sources": sources,
        "missing_sources": missing,
        **{modality.plural: count for modality, count in items.items()},
        "files_indexed": counts.indexed,
        "kinds": {str(kind): count for kind, count in kinds.items()},
        "files_failed": counts.failed,
        "files_noted": counts.noted,
        "files_removed": counts.removed,
        "files_dated_by_mtime": counts.dated_by_mtime,
        "items_hidden": counts.hidden,
        "passed_over": {"endings": seen.endings, "system_folders": seen.system_folders},
        "found_texts": {str(task): asdict(found) for task, found in texts.items()},
        "bytes": storage.total,
        "storage": vars(storage),
        "token_cache": {**vars(usage), **vars(settings)},
        **({"version": as_table(opened).version} if opened.is_table else {}),
    }
    if as_json:
        print_json(facts | listed)
        return
    if failed or notes:
        _print_listed(listed)
        for line in console.passed_over(seen.endings, seen.system_folders):
            console.out.print(line, markup=False)
        return
    lines = {
        "Library": opened.location,
        **({"Version": f"{facts['version']:,} of the table"} if opened.is_table else {}),
        **({"Catalog": opened.manifest.catalog} if opened.manifest.catalog else {}),
        "Encoder": f"{space.encoder} (space {space.id})",
        "Sources": "\n          ".join(map(one_line, sources)) or "none",
        "Files": ", ".join(f"{count:,} {_kind_name(kind, count)}" for kind, count in kinds.items())
        or "none",
        **{
            modality.plural.title(): f"{count:,}"
            for modality, count in items.items()
            if count or modality is not Modality.AUDIO
        },
        "Failed": f"{counts.failed:,}" + (" (mmsearch status --failed)" if counts.failed else ""),
        "Noted": f"{counts.noted:,}" + (" (mmsearch status --notes)" if counts.noted else ""),
        "File date": f"{counts.dated_by_mtime:,} images and videos have no date of their own",
        **({"Hidden": f"{counts.hidden:,} of these"} if counts.hidden else {}),
        **{
            TITLES[task]: f"in {found.with_text:,} of {found.looked_at:,}"
            + (f", {found.failed:,} failed" if found.failed else "")
            + f" ({', '.join(found.models)})"
            for task, found in texts.items()
        },
        "In store" if opened.is_table else "On disk": f"{facts['bytes'] / 1e6:,.1f} MB",
        "Tokens": f"{usage.images:,} images, {usage.bytes / 1e6:,.1f} MB of at most "
        f"{settings.limit_bytes / 1e6:,.1f} MB, {settings.precision}",
    }
    for name, value in lines.items():
        console.out.print(f"{name:<9} {value}", markup=False)
    for line in console.passed_over(seen.endings, seen.system_folders):
        console.out.print(line, markup=False)
    for source in missing:
        complain(valid_text(advice_on_missing(source)))
    for warning in opened.warnings:
        complain(valid_text(warning))


def _kind_name(kind: str, count: int) -> str:
    name = "sound" if kind == MediaKind.AUDIO else kind
    return name if count == 1 else f"{name}s"


def _listed_files(snapshot: "Snapshot", *, failed: bool, notes: bool) -> dict[str, Any]:
    """List failed files and notes, where they are asked for, as JSON has them."""
    listed: dict[str, Any] = {}
    if failed:
        listed["failures"] = [{"path": f.path, "reason": f.failure} for f in snapshot.failures()]
    if notes:
        listed["notes"] = [{"path": f.path, "notes": f.notes} for f in snapshot.notes()]
    return listed


def _print_listed(listed: dict[str, Any]) -> None:
    """Print what `_listed_files` gives, a line each."""
    from api.cli import console

    lines = [(f["path"], f["reason"]) for f in listed.get("failures", ())]
    if "failures" in listed and not lines:
        console.out.print("No files failed.")
    lines += [(f["path"], note) for f in listed.get("notes", ()) for note in f["notes"]]
    if listed.get("notes") == []:
        console.out.print("Nothing to note: all indexed files could be read completely.")
    for path, said in lines:
        console.out.print(f"{console.display_path(path)}: {one_line(said)}", markup=False)


def relocate(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="Path as the library knows it (`mmsearch status`).")
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Path where it is now.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check and count; change nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Relocate even if none of the files are there, or over other files."
        ),
    ] = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a moved or renamed directory, or a drive, its new path, without indexing it again."""
    from api.cli import console
    from api.http.schemas import valid_text
    from indexer.sources import trust_named

    trust_named([new])
    opened = open_library(library, upgrade=not dry_run)
    done = opened.relocate(old, new, dry_run=dry_run, force=force)
    presence = done.presence
    if as_json:
        facts: dict[str, Any] = {
            "library": opened.location,
            "old": valid_text(done.old),
            "new": valid_text(done.new),
            **asdict(presence),
            "relocated": done.relocated,
            "hidden": done.hidden,
            "dry_run": dry_run,
        }
        print_json(facts)
        return
    lines = [
        f"{presence.there:,} of {presence.files:,} searchable files of {done.old} are at "
        f"{done.new}, {presence.same:,} of them unchanged."
    ]
    if dry_run:
        lines.append("Nothing was changed (--dry-run).")
    else:
        hidden = f"; {done.hidden:,} were known there before" if done.hidden else ""
        lines.append(f"{done.relocated:,} files relocated{hidden}.")
    for line in lines:
        console.out.print(valid_text(line), markup=False)
    if not dry_run and presence.same < presence.files:
        complain(f"`mmsearch index {quote(valid_text(done.new))}` brings the others up to date.")


def remove(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Directories and files.")],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove directories and files from a library; the files themselves stay."""
    from api.cli import console
    from indexer.pipeline import remove_paths
    from indexer.sources import absolute
    from retrieval.catalog.paths import is_at_or_below, is_there

    opened = open_library(library)
    removed = remove_paths(opened, paths)
    if as_json:
        print_json({"library": opened.location, "removed": removed})
        return
    console.out.print(f"{removed:,} files removed from the library.")
    with opened.catalog.snapshot() as snapshot:
        sources = snapshot.sources()
    for path in filter(is_there, map(absolute, paths)):
        containing = [s for s in sources if s != path and is_at_or_below(path, s)]
        for source in containing:
            console.out.print(
                f"{path} is in the source {source}: the next `mmsearch index` will find it again.",
                markup=False,
            )


def encoders(
    context: typer.Context,
    show_all: Annotated[
        bool, typer.Option("--all", help="List all models of open_clip, not only local ones.")
    ] = False,
    language: Annotated[
        str | None,
        option("--language", "CODE", "List encoders that know this language, such as zh."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the available encoders, their languages, and which are on this machine."""
    if context.invoked_subcommand is not None:
        if show_all or language or as_json:
            raise UsageError("Give options after the command.")
        return
    from api.cli.encoders import export_facts
    from retrieval.encoders.exports.store import list_exports
    from retrieval.encoders.languages import language_code
    from retrieval.encoders.registry import list_encoders, list_forms

    code = language_code(language) if language else None
    listings = [
        listing
        for listing in list_encoders(code)
        if show_all or code or listing.local or listing.is_recommended
    ]
    if code and not show_all:
        # Of a hundred models without a figure, those that are here.
        listings = [one for one in listings if one.recall is not None or one.local]
    if as_json:
        exports = [export_facts(one) for one in list_exports()]
        encoders_found = [vars(listing) for listing in listings]
        print_json({"encoders": encoders_found, "forms": list_forms(), "exports": exports})
        return
    _print_encoders(listings, code, show_all=show_all)


def _print_encoders(
    listings: Sequence["EncoderListing"], language: str | None, *, show_all: bool
) -> None:
    from api.cli import console
    from api.cli.encoders import export_lines
    from retrieval.encoders.exports.store import list_exports
    from retrieval.encoders.languages import language_name
    from retrieval.encoders.registry import has_open_clip, list_forms

    for listing in listings:
        where = "here" if listing.local else "to download"
        recall = "" if language is None else f"{listing.recall or '-':<6} "
        notes = "; ".join(filter(None, (listing.note, _languages(listing))))
        console.out.print(f"{listing.name:<60} {where:<12} {recall}{notes}".rstrip(), markup=False)
    if language:
        console.out.print(
            f"Figures: text to image in {language_name(language)} on Crossmodal-3600 (Thapliyal "
            "et al. 2022), mean of recall@1, @5 and @10 in percent, as published by Immich (2025).",
            markup=False,
        )
    if not has_open_clip():
        console.out.print("Models of open_clip need its package: pip install open-clip-torch")
    elif not show_all:
        console.out.print("All models of open_clip: mmsearch encoders --all")
    console.out.print("\nNamed by you:")
    for form, note in list_forms().items():
        console.out.print(f"{form:<60} {note}", markup=False)
    for number, one in enumerate(list_exports()):
        if number == 0:
            console.out.print("\nExported:")
        for line in export_lines(one):
            console.out.print(line, markup=False)


def _languages(listing: "EncoderListing") -> str:
    if not listing.languages and not listing.source:
        return ""
    if not listing.only_these:
        return "multilingual"
    return " ".join(listing.languages)
