"""`mmsearch trust`: what libraries may use outside of themselves."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import JsonOption, print_json
from retrieval.errors import LibraryError, NotFoundError, UsageError

PathsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...", help="Folders or files to allow. (default: list what is allowed)"
    ),
]


def trust(
    paths: PathsArgument = None,
    remove: Annotated[bool, typer.Option("--remove", help="Allow these paths no longer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Allow libraries to use an encoder's files, or a link's target, outside of them."""
    from api.cli import console
    from api.http.schemas import valid_text
    from retrieval.encoders import trust as record

    if remove and not paths:
        raise UsageError("`--remove` needs the PATH of what to allow no longer.")
    try:
        for path in paths or []:
            if remove:
                if not record.distrust(path):
                    raise NotFoundError(f"{path.absolute()} is not among the allowed paths.")
            elif not path.exists():
                raise NotFoundError(f"There is nothing at {path}.")
            else:
                record.trust(path)
    except OSError as error:
        raise LibraryError(
            f"{record.record_file()} cannot be written: {error.strerror}. Set {record.VARIABLE} "
            "to the paths instead."
        ) from error
    allowed = [valid_text(path) for path in map(str, record.trusted_paths())]
    if as_json:
        print_json({"trusted": allowed})
        return
    for name in allowed:
        console.out.print(name, markup=False, highlight=False)
