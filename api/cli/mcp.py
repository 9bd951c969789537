"""`mmsearch mcp`: offer a library to an assistant, as an MCP server."""

from typing import Annotated

import typer

from api.cli.options import DeviceOption, LibraryOption, RerankOption
from retrieval.errors import UsageError, import_errors_as
from retrieval.library import open_library


def mcp(
    library: LibraryOption = None,
    no_image_paths: Annotated[
        bool,
        typer.Option(
            "--no-image-paths", help="Accept query images in base64 only, no paths of the disk."
        ),
    ] = False,
    rerank: RerankOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Run an MCP server on standard input and output, for assistants that call tools."""
    with import_errors_as(UsageError("This needs the package mcp: `pip install 'mmsearch[mcp]'`.")):
        import mcp.server as _installed  # noqa: F401
    from api.mcp.server import build_server

    opened = open_library(library)
    server = build_server(opened, device=device, rerank=rerank, allow_paths=not no_image_paths)
    server.run("stdio")
