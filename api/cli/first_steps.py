"""What `mmsearch` alone prints: what to do next, by what is in the current folder."""

import os
from pathlib import Path
from shlex import quote

from rich.text import Text

from api.cli.console import display_path, out
from api.cli.folder_library import find_library
from retrieval.errors import MMSearchError
from retrieval.library import default_library_path, library_exists

_MOST_ENTRIES = 5000
_EXAMPLE = 'mmsearch "a dog in the snow"'


def print_first_steps() -> None:
    """Say in a few lines how to search here, or what is missing for it."""
    out.print("mmsearch finds pictures and texts by what they show and say.\n")
    steps = first_steps()
    width = max(len(command) for command, _ in steps)
    for command, why in steps:
        out.print(Text.assemble("  ", (command.ljust(width), "bold"), f"  {why}"))
    out.print("\nAll commands: mmsearch --help")


def first_steps() -> list[tuple[str, str]]:
    """List commands to begin with, each with what it does here."""
    try:
        folder = Path.cwd()
        found = find_library(folder)
        has_default = library_exists(default_library_path())
    except (OSError, MMSearchError):
        found, has_default = None, False
    if found is not None:
        where = display_path(found.root) if found.folder != found.root else "this folder"
        serve = f"mmsearch serve --library {quote(display_path(found.name))}"
        return [
            (_EXAMPLE, f"search {where}, which is indexed"),
            (f"{_EXAMPLE} --open", "the same in your browser"),
            (serve, "the page and the HTTP API"),
        ]
    steps = []
    count = files_here()
    if count:
        said = f"{count:,} files" if count < _MOST_ENTRIES else "the files"
        steps.append((_EXAMPLE, f"index {said} of this folder, then search them"))
    else:
        steps.append((f"cd ~/Pictures && {_EXAMPLE}", "index a folder, then search it"))
    if has_default:
        steps.append(('mmsearch search "a dog"', "search your library"))
        steps.append(("mmsearch status", "what your library holds"))
    else:
        steps.append(("mmsearch index DIR...", "make a library of several folders"))
    steps.append(("mmsearch serve", "the page and the HTTP API of your library"))
    return steps


def files_here() -> int:
    """Count the files of the current folder that can be indexed, looking at no more than some."""
    from retrieval.media.registry import format_of

    looked_at = count = 0
    try:
        for _, folders, names in os.walk("."):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                count += not name.startswith(".") and format_of(name) is not None
            looked_at += len(folders) + len(names)
            if looked_at > _MOST_ENTRIES:
                break
    except OSError:
        return 0
    return count
