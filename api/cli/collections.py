"""`mmsearch collections`, `hide` and `unhide`: gather items, and hide them."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Annotated, Any

import typer

from api.cli.options import JsonOption, LibraryOption, YesOption, print_json
from retrieval.catalog import Collection
from retrieval.catalog.curation import Collections
from retrieval.errors import NotFoundError, UsageError
from retrieval.filters import Filter
from retrieval.library import Library, open_library
from retrieval.media import Modality
from retrieval.objects.paths import given_uri

_MOST_OF_A_PATH = 1_000_000

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a collection, in any case.")
]
ItemsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="ITEM...",
        help="Ids of items, or paths of files and directories; -: from standard input, one a line.",
    ),
]

collections = typer.Typer(
    help="List the collections of a library; commands: list, show, add, remove, rename, delete.",
    invoke_without_command=True,
)


@collections.callback()
def list_all(
    context: typer.Context, library: LibraryOption = None, as_json: JsonOption = False
) -> None:
    """List the collections of a library; commands: list, show, add, remove, rename, delete."""
    if context.invoked_subcommand is not None:
        if library is not None or as_json:
            raise UsageError("Give `--library` and `--json` after the command.")
        return
    list_collections(library, as_json)


@collections.command("list")
def list_collections(library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """List the collections of a library, as `mmsearch collections` alone does."""
    found = open_library(library).collections.all()
    if as_json:
        print_json({"collections": [_facts(one) for one in found]})
        return
    if not found:
        _say("There are no collections yet: `mmsearch collections add NAME ITEM...` makes one.")
    for one in found:
        _say(f"{one.items:>9,}  {one.name}")


@collections.command()
def show(
    name: NameArgument,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="End each path with a null byte, for xargs -0.")
    ] = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the files of a collection, in the order in which they were added."""
    from api.cli import console
    from api.http.schemas.items import ListedItem, item_facts

    opened = open_library(library)
    collection = opened.collections.get(name)
    items = list(opened.collections.items(name))
    if as_json:
        listed = [ListedItem(**item_facts(item)).model_dump(mode="json") for item in items]
        print_json({**_facts(collection), "items": listed})
        return
    for path in dict.fromkeys(item.path for item in items):
        if null:
            sys.stdout.buffer.write(os.fsencode(path) + b"\0")
        else:
            console.out.print(console.display_path(path), markup=False, soft_wrap=True)
    sys.stdout.flush()


@collections.command()
def add(
    name: NameArgument,
    items: ItemsArgument,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add items at the end of a collection, which is created if there is none of that name."""
    opened = open_library(library, upgrade=True)
    item_ids = _item_ids(opened, items)
    is_new = _create_if_needed(opened.collections, name)
    try:
        changed = opened.collections.add(name, item_ids)
    except NotFoundError:
        if is_new:
            opened.collections.delete(name)
        raise
    _tell_change(opened.collections.get(name), changed, "added", as_json=as_json)


@collections.command()
def remove(
    name: NameArgument,
    items: ItemsArgument,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take items out of a collection. They stay in the library."""
    opened = open_library(library, upgrade=True)
    opened.collections.get(name)
    changed = opened.collections.remove(name, _item_ids(opened, items))
    _tell_change(opened.collections.get(name), changed, "removed", as_json=as_json)


@collections.command()
def rename(
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="Another name.")],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a collection another name."""
    renamed = open_library(library, upgrade=True).collections.rename(name, new_name)
    if as_json:
        print_json(_facts(renamed))
    else:
        _say(f"It is called {renamed.name} now.")


@collections.command()
def delete(
    name: NameArgument,
    yes: YesOption = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a collection. Its items stay in the library."""
    opened = open_library(library, upgrade=True)
    found = opened.collections.get(name)
    if not yes and found.items:
        typer.confirm(f"Delete the collection {found.name} of {_items(found.items)}?", abort=True)
    opened.collections.delete(name)
    if as_json:
        print_json({"deleted": found.name})
    else:
        _say(f"The collection {found.name} was deleted. Its items stay in the library.")


def hide(items: ItemsArgument, library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """Hide items or files from searches and lists; `--with-hidden` finds them all the same."""
    opened = open_library(library, upgrade=True)
    _tell_hidden(opened.hide(_item_ids(opened, items)), "hidden", as_json=as_json)


def unhide(
    items: ItemsArgument, library: LibraryOption = None, as_json: JsonOption = False
) -> None:
    """Show hidden items or files again."""
    opened = open_library(library, upgrade=True)
    _tell_hidden(opened.unhide(_item_ids(opened, items)), "shown again", as_json=as_json)


def _create_if_needed(collections: Collections, name: str) -> bool:
    """Return whether there was no collection of this name, and one was created."""
    try:
        collections.get(name)
    except NotFoundError:
        collections.create(name)
        return True
    return False


def _item_ids(library: Library, given: Sequence[str]) -> list[int]:
    """Find items by their ids, and by the paths of files and directories.

    Raises NotFoundError for a path that the library knows nothing at, UsageError for a number that
    is an id, and the name of a file or directory here as well.
    """
    from retrieval.search.routes import default_spaces

    words = list(_words(given))
    space_ids = default_spaces(library)
    found: list[int] = []
    with library.catalog.snapshot() as snapshot:
        for word in words:
            if word.isascii() and word.isdecimal():
                if os.path.lexists(word):
                    raise UsageError(
                        f"{word} is the id of an item, and a file or directory here. Write "
                        f"./{word} for what is here, or go elsewhere for the item."
                    )
                found.append(int(word))
                continue
            path = given_uri(word) or os.path.abspath(os.path.expanduser(word))  # noqa: PTH100, PTH111
            below = Filter(source=path, hidden="any")
            items = [
                item
                for space_id, modality in product(space_ids, (Modality.IMAGE, Modality.AUDIO))
                for item in snapshot.items(
                    space_id, where=below, modality=modality, limit=_MOST_OF_A_PATH
                )
            ]
            # Pictures of pages stand for the passages on them.
            items = items or snapshot.items(
                space_ids[0], where=below, modality=Modality.TEXT, limit=_MOST_OF_A_PATH
            )
            if not items:
                raise NotFoundError(
                    f"The library has no items at {path}. `mmsearch index` adds what is there."
                )
            found += [item.id for item in items]
    return list(dict.fromkeys(found))


def _words(given: Iterable[str]) -> Iterable[str]:
    for word in given:
        if word == "-":
            yield from filter(None, (line.strip() for line in sys.stdin))
        else:
            yield word


def _facts(collection: Collection) -> dict[str, Any]:
    created_at = datetime.fromtimestamp(collection.created_at, UTC)
    return {
        "id": collection.id,
        "name": collection.name,
        "created_at": created_at.isoformat(),
        "count": collection.items,
    }


def _tell_change(collection: Collection, changed: int, how: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**_facts(collection), "changed": changed})
    else:
        _say(f"{_items(changed)} {how}; {collection.name} has {_items(collection.items)} now.")


def _tell_hidden(changed: int, how: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"changed": changed})
    else:
        _say(f"{_items(changed)} {how}.")


def _items(count: int) -> str:
    return f"{count:,} item{'' if count == 1 else 's'}"


def _say(message: str) -> None:
    from api.cli import console

    console.out.print(message, markup=False, soft_wrap=True)
