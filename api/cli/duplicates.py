"""`mmsearch duplicates`: list identical files and near-duplicate images."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import JsonOption, LibraryOption, SpaceOption, complain, option, print_json
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from retrieval.catalog import Item
    from retrieval.duplicates import ExactGroup, NearDuplicates
    from retrieval.encoders.base import Space
    from retrieval.library import Library

_DEFAULT_LIMIT = 100
_MANY_PICTURES = 300_000


def duplicates(
    threshold: Annotated[
        float | None,
        option(
            "--threshold",
            "COSINE",
            "Minimum similarity of near-duplicates. (default: 0.9, chosen for the starter encoder)",
            min=0,
            max=1,
        ),
    ] = None,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Only report files with identical content.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Also compare video frames and document pages.")
    ] = False,
    limit: Annotated[
        int | None,
        option(
            "--limit",
            "N",
            "Maximum number of near-duplicate pairs, the most similar first. (default: 100)",
            min=1,
        ),
    ] = None,
    library: LibraryOption = None,
    space: SpaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find duplicates: identical files, and images that look the same. Nothing is deleted."""
    if exact_only and (frames or limit is not None or threshold is not None):
        raise UsageError(
            "--exact-only excludes near-duplicates: use it, or --threshold, --frames and --limit, "
            "not both."
        )
    from retrieval.duplicates import DEFAULT_THRESHOLD, find_exact
    from retrieval.library import open_library

    opened = open_library(library)
    chosen = opened.space(space)
    with opened.catalog.snapshot() as snapshot:
        exact = find_exact(snapshot)
    near = None
    if not exact_only:
        threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        near = _near(opened, chosen, threshold, frames, limit or _DEFAULT_LIMIT)
    if as_json:
        print_json(
            {
                "library": str(opened.path),
                "space": chosen.id,
                "threshold": threshold,
                **_exact_facts(exact),
                **_near_facts(near),
            }
        )
        return
    _print_exact(exact)
    if near is not None and threshold is not None:
        _print_near(near, threshold)


def _near(
    library: "Library", space: "Space", threshold: float, frames: bool, limit: int
) -> "NearDuplicates":
    from api.cli import console
    from retrieval.duplicates import estimate_seconds, find_near

    def warn(pictures: int) -> None:
        if pictures > _MANY_PICTURES:
            minutes = estimate_seconds(pictures, space.dimension) / 60
            complain(
                f"Comparing {pictures:,} images takes about {minutes:,.0f} minutes. Stop with "
                "Ctrl-C; --exact-only skips this."
            )

    with console.stage_progress() as show:
        return find_near(
            library,
            space,
            threshold,
            frames=frames,
            limit=limit,
            on_plan=warn,
            on_progress=lambda done, total: show("Comparing", done, total),
        )


def _exact_facts(groups: "list[ExactGroup]") -> dict[str, Any]:
    """JSON fields of identical files; `bytes` is the size of one file."""
    from api.http.schemas import valid_text

    return {
        "spare_bytes": sum(group.spare_bytes for group in groups),
        "exact": [
            {
                "content_hash": group.content_hash,
                "bytes": group.size,
                "spare_bytes": group.spare_bytes,
                "paths": [valid_text(path) for path in group.paths],
            }
            for group in groups
        ],
    }


def _near_facts(near: "NearDuplicates | None") -> dict[str, Any]:
    """JSON fields of near-duplicates; null if they were not searched for."""
    if near is None:
        return {"pictures": None, "near_found": None, "near_outdated": None, "near": None}
    return {
        "pictures": near.pictures,
        "near_found": near.found,
        "near_outdated": near.outdated,
        "near": [
            {
                "similarity": pair.similarity,
                "a": _item_facts(pair.first),
                "b": _item_facts(pair.second),
            }
            for pair in near.pairs
        ],
    }


def _item_facts(item: "Item") -> dict[str, Any]:
    from api.http.schemas import valid_text

    return {
        "item_id": item.id,
        "path": valid_text(item.path),
        "kind": item.kind,
        "width": item.width,
        "height": item.height,
        "page": item.page,
        "time_s": item.time_s,
        "bytes": item.size,
        "content_hash": item.content_hash,
    }


def _print_exact(groups: "list[ExactGroup]") -> None:
    from api.cli import console

    if not groups:
        console.out.print("No two files have the same content.")
        return
    files = sum(len(group.paths) for group in groups)
    spare = sum(group.spare_bytes for group in groups)
    console.out.print(
        f"{files:,} files in {len(groups):,} groups of identical files; removing the copies would "
        f"free {_size(spare)}:"
    )
    for group in groups:
        for place, path in enumerate(group.paths):
            size = _size(group.size) if place == 0 else ""
            console.out.print(f"{size:>12}  {console.display_path(path)}", markup=False)


def _print_near(near: "NearDuplicates", threshold: float) -> None:
    from api.cli import console

    compared = f"of {near.pictures:,} images (similarity at least {threshold:g})"
    if not near.found:
        console.out.print(f"No near-duplicate pairs {compared}.")
        return
    console.out.print(f"{near.found:,} near-duplicate pairs {compared}:")
    for pair in near.pairs:
        for similarity, item in ((f"{pair.similarity:.3f}", pair.first), ("", pair.second)):
            pixels = f"{item.width} x {item.height}" if item.width and item.height else ""
            path = console.display_path(item.path) + console.place_in_file(item)
            console.out.print(f"{similarity:>7}  {pixels:>13}  {path}", markup=False)
    if near.outdated:
        complain(
            f"{near.outdated:,} pairs are left out: their files were changed or deleted after they "
            "were indexed. Run `mmsearch index`."
        )
    if near.damaged:
        complain(
            f"{near.damaged:,} images were not compared: their vectors are damaged on the disk. "
            "`mmsearch check --repair` makes them again."
        )
    rest = near.found - near.outdated - len(near.pairs)
    if rest:
        complain(f"{rest:,} more, less similar: raise --limit to see them.")


def _size(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
