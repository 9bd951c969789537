"""`mmsearch trust`: what libraries may use outside of themselves."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import JsonOption, print_json
from retrieval.errors import LibraryError, NotFoundError, UsageError

PathsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Folders, files or URLs of catalogs to allow. (default: list what is allowed)",
    ),
]


def trust(
    paths: PathsArgument = None,
    remove: Annotated[bool, typer.Option("--remove", help="Allow these paths no longer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Allow libraries to use an encoder's files, a link's target, or a database elsewhere."""
    from api.cli import console
    from api.http.schemas import valid_text
    from retrieval.catalog import trusted as catalogs
    from retrieval.catalog.dialects import is_url
    from retrieval.encoders import trust as record

    if remove and not paths:
        raise UsageError("`--remove` needs the PATH of what to allow no longer.")
    try:
        for given in paths or []:
            path = Path(given)
            if is_url(given):
                _trust_catalog(given, remove=remove)
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
    allowed += catalogs.trusted_catalogs()
    if as_json:
        print_json({"trusted": allowed})
        return
    for name in allowed:
        console.out.print(name, markup=False, highlight=False)


def _trust_catalog(given: str, *, remove: bool) -> None:
    from retrieval.catalog.trusted import distrust_catalog, given_catalog, trust_catalog

    url = given_catalog(given)
    if not remove:
        trust_catalog(url)
    elif not distrust_catalog(url):
        raise NotFoundError(f"{url} is not among the allowed catalogs.")
