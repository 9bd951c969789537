"""`mmsearch versions` and `mmsearch compact`: what libraries in Lance have, and others have not."""

from datetime import timedelta
from typing import Annotated

from api.cli.options import JsonOption, LibraryOption, option, print_json
from retrieval.library import open_library


def versions(
    limit: Annotated[
        int, option("--limit", "N", "Maximum number of versions, the newest first.", min=1)
    ] = 20,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a library in Lance; `--library lance:DIR@N` opens one of them."""
    from api.cli import console
    from retrieval.lance.library import as_table

    opened = as_table(open_library(library))
    found = opened.table.versions()[::-1]
    if as_json:
        listed = [
            {"version": one.version, "made_at": one.made_at.isoformat(), "rows": one.rows}
            for one in found[:limit]
        ]
        print_json({"library": opened.location, "version": opened.version, "versions": listed})
        return
    for one in found[:limit]:
        mark = " (this one)" if one.version == opened.version else ""
        made = f"{one.made_at:%Y-%m-%d %H:%M:%S}"
        console.out.print(f"{one.version:>8,}  {made}  {one.rows:>12,} rows{mark}", markup=False)
    if len(found) > limit:
        console.out.print(f"{len(found) - limit:,} earlier ones: --limit N", markup=False)


def compact(
    keep_days: Annotated[
        float | None,
        option(
            "--keep-days",
            "N",
            "Also delete the versions that are older than this. (default: all can still be opened)",
            min=0,
        ),
    ] = None,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compact a library in Lance: join small fragments, drop deleted rows, update its indices."""
    from api.cli import console
    from retrieval.integrity.storage import measure_storage
    from retrieval.lance.library import as_table

    opened = as_table(open_library(library))
    before = measure_storage(opened).total
    opened.compact(keep=None if keep_days is None else timedelta(days=keep_days))
    after = measure_storage(opened).total
    if as_json:
        facts = {"bytes_before": before, "bytes": after}
        print_json({"library": opened.location, "version": opened.version, **facts})
        return
    console.out.print(
        f"Version {opened.version:,} is compact: {after / 1e6:,.1f} MB, {before / 1e6:,.1f} MB "
        "before.",
        markup=False,
    )
