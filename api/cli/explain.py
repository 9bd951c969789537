"""`mmsearch explain`: why a text and an image match."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import DeviceOption, JsonOption, library_directory, option, print_json
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.rerankers.explanation import Explanation
    from retrieval.search.found_text import FoundText

_BAR = 30


def explain(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text to match with the image.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the attention maps (image file)."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        option(
            "--encoder",
            "NAME",
            "Encoder: starter, open_clip:MODEL/PRETRAINED or local-dir:DIR. (default: starter)",
        ),
    ] = None,
    library: Annotated[
        Path | None,
        option(
            "--library",
            "DIR",
            "Use the encoder of this library instead.",
            callback=library_directory,
        ),
    ] = None,
    rerank: Annotated[
        str,
        option(
            "--rerank",
            "NAME",
            "Reranker: auto (shipped for the encoder), cross-attention:FILE or "
            "late-interaction:NAME_OR_DIR.",
        ),
    ] = "auto",
    ocr: Annotated[
        bool, typer.Option("--ocr", help="Recognise the text in the image, too.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Explain a match: the words that carried it, and the image regions they attended to."""
    if not text.strip():
        raise UsageError("The text is empty. Describe in a few words what the image may show.")
    if library and encoder:
        raise UsageError(
            "--library uses the encoder of the library: use it or --encoder, not both."
        )
    picture = _read(image)
    if output:
        from api.drawing.text import require_drawable

        require_drawable(output)
        if output.exists() and output.samefile(image):
            raise UsageError(f"{output} is the input image: choose another output file.")
    if library:
        explanation = _with_library(text, picture, library, rerank, device)
    else:
        explanation = _with_encoder(text, picture, encoder or "starter", rerank, device)
    found = _found(text, picture, image, library, ocr)
    if as_json:
        from api.http.schemas import ExplanationSchema

        print_json(ExplanationSchema.of(explanation, found).model_dump())
    else:
        _print(explanation, found)
    if output:
        from api.drawing.heat_map import write_heat_map

        write_heat_map(explanation, picture, output, found)


def _read(image: Path) -> "Image.Image":
    from retrieval.errors import UnreadableFileError
    from retrieval.media.images import read_image

    try:
        return read_image(image)
    except (OSError, UnreadableFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"The image {image} cannot be read: {reason}.") from error


def _with_library(
    text: str, image: "Image.Image", library: Path, rerank: str, device: str
) -> "Explanation":
    from retrieval.library import open_library
    from retrieval.search.joint import engine_of

    return engine_of(open_library(library), device=device).explain(text, image, rerank)


def _with_encoder(
    text: str, image: "Image.Image", name: str, rerank: str, device: str
) -> "Explanation":
    from retrieval.encoders.registry import load_encoder
    from retrieval.rerankers.explanation import explain
    from retrieval.rerankers.registry import load_reranker

    encoder = load_encoder(name, device)
    return explain(load_reranker(rerank, encoder, device), encoder, text, image)


def _found(
    text: str, picture: "Image.Image", path: Path, library: Path | None, ocr: bool
) -> "list[FoundText]":
    """Find lines with words of the text in what is recognised now, or what the library has."""
    from retrieval.catalog import Enrichment
    from retrieval.recognition.base import Task
    from retrieval.recognition.registry import load_recognizer
    from retrieval.search.found_text import found_text

    if ocr:
        recognizer: Any = load_recognizer(Task.OCR, "rapidocr")
        [read] = recognizer.recognize([picture])
        read_now = Enrichment(Task.OCR, "", recognizer.identity, read.segments, read.failure)
        return found_text(text, [read_now])
    if library is None:
        return []
    import xxhash

    from retrieval.library import open_library

    key = xxhash.xxh3_128_hexdigest(path.read_bytes())
    with open_library(library).catalog.snapshot() as snapshot:
        of_pictures = [task for task in Task if task.is_of_pictures]
        known = [one for task in of_pictures for one in snapshot.enrichments(task, [key]).values()]
    return found_text(text, known)


def _print(explanation: "Explanation", found: "list[FoundText]") -> None:
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    from api.cli.console import out

    out.print(f"match {explanation.match:.3f}   similarity {explanation.similarity:.3f}")
    words = sorted(explanation.words, key=lambda word: -word.contribution)
    shown = ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in w.word) for w in words]
    width = min(max(map(cell_len, shown), default=0), 24)
    longest = max((abs(word.contribution) for word in words), default=0.0)
    block = "█" if out.encoding.lower().startswith("utf") else "#"
    for position, (word, name) in enumerate(zip(words, shown, strict=True)):
        share = abs(word.contribution) / longest if longest else 0.0
        out.print(
            Text.assemble(
                (f"  {set_cell_size(name, width)}", "bold" if position == 0 else ""),
                f"  {word.contribution:+7.3f}  ",
                (block * round(_BAR * share), "magenta" if word.contribution > 0 else "dim"),
            )
        )
    for one in found:
        line = "".join(c if c.isprintable() else " " for c in one.segment.text)
        place = "in the picture" if one.segment.box else "in its caption"
        out.print(Text.assemble((f"  {place}: ", "bold"), line))
