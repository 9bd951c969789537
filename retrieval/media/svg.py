"""Parse SVG drawings from strangers, and render them in a separate process."""

import importlib.util
import re
import subprocess
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from retrieval.errors import MissingExtraError, UnreadableFileError

SVG_SIDE = 1024
"""Longer side of a rendered drawing in pixels."""

MOST_SVG_BYTES = 32 << 20
_MOST_XML_DEPTH = 200
_RENDER_SECONDS = 20
_RASTER_DATA = re.compile(r"data:image/(png|jpe?g|gif|webp)\s*(;[^,]*)?,", re.IGNORECASE)

_RENDER_SVG = f"""
import sys
sys.path.insert(0, sys.argv[1])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
except (ImportError, OSError, ValueError):
    pass
import resvg_py
svg = sys.stdin.buffer.read().decode()
try:
    png = resvg_py.svg_to_bytes(svg_string=svg, width={SVG_SIDE}, height={SVG_SIDE}, dpi=96.0)
except ValueError as error:
    sys.exit(str(error))
sys.stdout.buffer.write(bytes(png))
"""


def parse_xml(data: bytes, *, doctype: bool) -> ElementTree.Element:
    """Parse untrusted XML; names are `{namespace}name`.

    doctype: whether a document type may be declared; even then nothing is fetched and no entity may
    contain another. Raises ValueError for that, for elements nested too deep and for broken XML.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = 0

    def qualified(name: str) -> str:
        return "{" + name if "}" in name else name

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_XML_DEPTH:
            raise ValueError("elements are nested too deep")
        builder.start(qualified(name), {qualified(key): attributes[key] for key in attributes})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(qualified(name))

    def declare_doctype(*_: object) -> None:
        if not doctype:
            raise ValueError("it declares a document type")

    def declare_entity(_name: str, _is_parameter: bool, value: str | None, *_: object) -> None:
        if value is None or "&" in value or "%" in value or len(value) > 1000:
            raise ValueError("it declares entities that are not plain short text")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = declare_doctype
    parser.EntityDeclHandler = declare_entity
    try:
        parser.Parse(data, True)
        return builder.close()
    except expat.ExpatError as error:
        raise ValueError(f"broken XML: {error}") from error


def parse_svg(data: bytes) -> ElementTree.Element:
    """Parse an SVG drawing, compressed or not. Raises UnreadableFileError."""
    if data.startswith(b"\x1f\x8b"):
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, MOST_SVG_BYTES + 1)
        except zlib.error as error:
            raise UnreadableFileError(f"cannot be decompressed: {error}") from error
    if len(data) > MOST_SVG_BYTES:
        raise UnreadableFileError(f"refused as too large: more than {MOST_SVG_BYTES >> 20} MiB")
    try:
        root = parse_xml(data, doctype=True)
    except ValueError as error:
        raise UnreadableFileError(f"not an SVG drawing that can be read: {error}") from error
    if root.tag.rpartition("}")[2] != "svg":
        raise UnreadableFileError("not an SVG drawing: another kind of XML")
    return root


def draw_svg(root: ElementTree.Element) -> bytes:
    """Render as PNG, with a longer side of `SVG_SIDE`, without references to files or the network.

    Raises UnreadableFileError if it cannot be rendered in time, MissingExtraError without resvg.
    """
    # In a process of its own, since the renderer ends its process on large drawings.
    package = importlib.util.find_spec("resvg_py")
    if package is None or package.origin is None:
        raise MissingExtraError("SVG drawings", "svg")
    for element in root.iter():
        for key in [key for key in element.attrib if key.rpartition("}")[2] == "href"]:
            target = element.attrib[key].strip()
            if target.startswith("#") or _RASTER_DATA.match(target):
                element.attrib[key] = target
            else:
                del element.attrib[key]
    folder = str(Path(package.origin).parent.parent)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _RENDER_SVG, folder],
            input=ElementTree.tostring(root, encoding="utf-8"),
            capture_output=True,
            timeout=_RENDER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreadableFileError(f"drawing it takes more than {_RENDER_SECONDS} s") from None
    if done.returncode == 1:
        reason = done.stderr.decode(errors="replace").strip()[-500:]
        raise UnreadableFileError(f"cannot be drawn: {reason}")
    if done.returncode:
        raise UnreadableFileError("cannot be drawn: too large or too deep")
    return bytes(done.stdout)
