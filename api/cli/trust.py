"""`mmsearch trust`: what libraries may use outside of themselves."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import JsonOption, print_json
from retrieval.errors import LibraryError, NotFoundError, UsageError
from retrieval.objects.paths import given_uri
from retrieval.objects.trust import distrust_uri, trust_uri, trusted_uris

PathsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Folders, files or addresses of sources to allow. (default: list what is allowed)",
    ),
]


def _of_source(uri: str, *, remove: bool) -> None:
    if not remove:
        trust_uri(uri)
    elif not distrust_uri(uri):
        raise NotFoundError(f"{uri} is not among the allowed sources.")


def trust(
    paths: PathsArgument = None,
    remove: Annotated[bool, typer.Option("--remove", help="Allow these paths no longer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Allow libraries to use an encoder's files, a link's target or a server outside of them."""
    from api.cli import console
    from api.http.schemas import valid_text
    from retrieval.encoders import trust as record

    if remove and not paths:
        raise UsageError("`--remove` needs the PATH of what to allow no longer.")
    try:
        for path in paths or []:
            if (uri := given_uri(path)) is not None:
                _of_source(uri, remove=remove)
            elif remove:
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
    allowed += trusted_uris()
    if as_json:
        print_json({"trusted": allowed})
        return
    for name in allowed:
        console.out.print(name, markup=False, highlight=False)
