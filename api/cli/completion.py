"""Values that the shell completes, found without loading a model or opening a catalog."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = {
    "image": "photos and other pictures",
    "video": "videos",
    "audio": "sounds",
    "document": "PDF files",
    "text": "texts",
    "table": "tables",
}
MODALITIES = {
    "any": "pictures, passages of texts and sounds",
    "image": "images, video frames and pages",
    "text": "chunks of text",
    "audio": "sounds, also of videos",
}
MODES = {
    "auto": "hybrid if some file has a telling word",
    "vector": "by meaning",
    "text": "by words",
    "hybrid": "by both",
}
SORTS = {
    "relevance": "the best first",
    "date": "the newest first",
    "date-asc": "the oldest first",
    "name": "by path",
}
RERANKERS = {
    "auto": "the one shipped for the encoder",
    "none": "no reranking",
    "cross-attention": "text and image together",
    "blip-itm": "BLIP, for any space",
    "late-interaction:": "ColPali or ColQwen2, for page images",
    "vilt:": "ViLT, for any space",
    "vlm:": "BLIP-2, Qwen3-VL-Reranker or jina-reranker-m0",
}
ENCODERS = {
    "auto": "the best one for this machine",
    "starter": "needs no download",
    "open_clip:": "MODEL/PRETRAINED of open_clip",
    "local-dir:": "a folder with a model",
    "clap:": "NAME_OR_DIR of a CLAP model: sound and text",
    "late-interaction:": "ColPali or ColQwen2, for page images",
}
_Completed = list[tuple[str, str]]


def one_of(values: dict[str, str]) -> Callable[[str], _Completed]:
    """Return what completes one of some values; their meanings are shown beside them."""

    def complete(incomplete: str) -> _Completed:
        return [(name, said) for name, said in values.items() if name.startswith(incomplete)]

    return complete


def list_of(values: dict[str, str]) -> Callable[[str], _Completed]:
    """Return what completes the last of some comma-separated values, each at most once."""

    def complete(incomplete: str) -> _Completed:
        before, comma, last = incomplete.rpartition(",")
        used = before.split(",")
        return [
            (before + comma + name, said)
            for name, said in values.items()
            if name.startswith(last) and name not in used
        ]

    return complete


def spaces(ctx: Any, incomplete: str) -> list[str]:
    """Complete the id of a space of the library that the command line names, or the default one."""
    from retrieval.files import user_data_directory

    named = ctx.params.get("library") or os.environ.get("MMSEARCH_LIBRARY")
    try:
        library = Path(named).expanduser() if named else user_data_directory() / "library"
        found = sorted(file.parent.name for file in library.glob("spaces/*/space.toml"))
    except (OSError, RuntimeError, ValueError):
        return []
    return [name for name in found if name.startswith(incomplete)]
