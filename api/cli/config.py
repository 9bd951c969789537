"""`mmsearch config`: show and change the defaults of options."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.options import JsonOption, complain, library_directory, option, print_json
from api.cli.settings import (
    FILE,
    SETTINGS,
    parse_setting,
    read_settings,
    user_file,
    write_setting,
)
from retrieval.errors import NotFoundError, UsageError

config = typer.Typer(
    invoke_without_command=True,
    help="Show and change the defaults of options: your own, and those of a library.",
)

_LibraryOption = Annotated[
    Path | None,
    option(
        "--library",
        "DIR",
        "The file of this library, in place of your own.",
        callback=library_directory,
    ),
]
_KeyArgument = Annotated[
    str,
    typer.Argument(metavar="KEY", help="Name of a setting.", autocompletion=lambda: list(SETTINGS)),
]


@config.callback()
def show(
    context: typer.Context,
    library: Annotated[
        Path | None,
        option(
            "--library",
            "DIR",
            "Show what counts for this library. (default: the default one)",
            callback=library_directory,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show and change the defaults of options: your own, and those of a library."""
    if context.invoked_subcommand:
        return
    from retrieval.library import default_library_path

    of_library = (library or default_library_path()) / FILE
    sources = {str(user_file()): read_settings(user_file())}
    sources[str(of_library)] = read_settings(of_library, of_library=True)
    for key, setting in SETTINGS.items():
        if setting.variable and setting.variable in os.environ:
            value = os.environ[setting.variable]
            # The user's file sets the variables that the environment lacks.
            if sources[str(user_file())].get(key) != value:
                sources.setdefault(f"${setting.variable}", {})[key] = value
    chosen = {key: (value, name) for name, found in sources.items() for key, value in found.items()}
    if as_json:
        body = {key: {"value": value, "from": name} for key, (value, name) in chosen.items()}
        print_json({"user": str(user_file()), "library": str(of_library), "settings": body})
        return
    from api.cli import console

    width = max(map(len, SETTINGS))
    for key, setting in SETTINGS.items():
        value, name = chosen.get(key, ("", ""))
        said = f"{_written(value)}  ({console.display_path(name)})" if name else setting.meaning
        console.out.print(f"{key:<{width}}  {said}", markup=False, style=None if name else "dim")
    complain(f"Change them: mmsearch config set KEY VALUE, in {user_file()}")


@config.command("set")
def set_value(
    key: _KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its new value.")],
    library: _LibraryOption = None,
) -> None:
    """Set the default of an option."""
    parsed = parse_setting(key, value, of_library=library is not None)
    write_setting(_file(library), key, parsed)


@config.command()
def unset(key: _KeyArgument, library: _LibraryOption = None) -> None:
    """Forget the default of an option."""
    if key not in SETTINGS:
        raise UsageError(f"There is no setting {key!r}. There are: {', '.join(SETTINGS)}.")
    write_setting(_file(library), key, None)


@config.command()
def edit(library: _LibraryOption = None) -> None:
    """Edit the file, with the program of $VISUAL or $EDITOR."""
    file = _file(library)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text(_template(), encoding="utf-8")
    try:
        subprocess.run([*shlex.split(editor), str(file)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"{editor} failed: {error}. Name an editor in $EDITOR.") from error
    read_settings(file)


def _file(library: Path | None) -> Path:
    if library is None:
        return user_file()
    from retrieval.library import library_exists

    if not library_exists(library):
        raise NotFoundError(f"There is no library at {library}.")
    return library / FILE


def _template() -> str:
    return "".join(f"# {key} =  # {setting.meaning}\n" for key, setting in SETTINGS.items())


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
