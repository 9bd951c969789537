"""`mmsearch trust`: what libraries may use outside of themselves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import JsonOption, print_json
from retrieval.errors import LibraryError, NotFoundError, UsageError

if TYPE_CHECKING:
    from retrieval.objects.trusted_addresses import TrustedAddresses

PathsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Folders, files, addresses of sources or URLs of catalogs to allow. (default: list "
        "what is allowed)",
    ),
]


def trust(
    paths: PathsArgument = None,
    remove: Annotated[bool, typer.Option("--remove", help="Allow these paths no longer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Allow libraries to use an encoder's files, a link's target, a server or a database."""
    from api.cli import console
    from api.http.schemas import valid_text
    from retrieval.catalog.dialects import is_url
    from retrieval.catalog.trusted import CATALOGS, given_catalog
    from retrieval.encoders import trust as record
    from retrieval.objects.paths import given_uri
    from retrieval.objects.trust import SOURCES

    if remove and not paths:
        raise UsageError("`--remove` needs the PATH of what to allow no longer.")
    for given in paths or []:
        if (uri := given_uri(given)) is not None:
            _change(SOURCES, uri, remove=remove)
        elif is_url(given):
            _change(CATALOGS, given_catalog(given), remove=remove)
        else:
            _change_path(Path(given), remove=remove)
    allowed = [valid_text(path) for path in map(str, record.trusted_paths())]
    allowed += [*SOURCES.all(), *CATALOGS.all()]
    if as_json:
        print_json({"trusted": allowed})
        return
    for name in allowed:
        console.out.print(name, markup=False, highlight=False)


def _change(record: "TrustedAddresses", address: str, *, remove: bool) -> None:
    try:
        if not remove:
            record.record(address)
        elif not record.remove(address):
            raise NotFoundError(f"{address} is not among the allowed addresses.")
    except OSError as error:
        raise _not_written(record.file, record.variable, error) from error


def _change_path(path: Path, *, remove: bool) -> None:
    from retrieval.encoders import trust as record

    try:
        if not remove:
            if not path.exists():
                raise NotFoundError(f"There is nothing at {path}.")
            record.trust(path)
        elif not record.distrust(path):
            raise NotFoundError(f"{path.absolute()} is not among the allowed paths.")
    except OSError as error:
        raise _not_written(record.record_file(), record.VARIABLE, error) from error


def _not_written(file: Path, variable: str, error: OSError) -> LibraryError:
    return LibraryError(
        f"{file} cannot be written: {error.strerror}. Set {variable} to what to allow instead."
    )
