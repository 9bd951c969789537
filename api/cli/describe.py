"""`mmsearch describe` and `mmsearch ask`: captions of images and answers about them."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import (
    DeviceOption,
    JsonOption,
    LibraryOption,
    complain,
    option,
    print_json,
)
from retrieval.errors import UnreadableFileError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.library import Library
    from retrieval.recognition.captions.captioner import Captioner

VARIABLE = "MMSEARCH_CAPTIONER"
"""Environment variable: the model of `describe` and `ask`."""

_IMAGES_AT_ONCE = 8

ModelOption = Annotated[
    str | None,
    option(
        "--model",
        "NAME_OR_DIR",
        "Image-to-text model: a repository of the model hub, or a folder. (default: "
        "$MMSEARCH_CAPTIONER, else that of `mmsearch config set captioner`)",
    ),
]
MaxTokensOption = Annotated[
    int,
    option("--max-tokens", "N", "Maximum length of a text in tokens.", min=1, max=512),
]


def describe(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Image files, or ids of items of the library."),
    ],
    model: ModelOption = None,
    prompt: Annotated[
        str | None,
        option(
            "--prompt",
            "TEXT",
            "What to write, for models with a chat template; how captions begin, for BLIP.",
        ),
    ] = None,
    max_tokens: MaxTokensOption = 64,
    library: LibraryOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Describe images in words, with an image-to-text model that you name."""
    captioner = captioner_of(model, device)
    captioner.require_captions()
    _print_texts(
        captioner,
        images,
        library,
        lambda pictures: captioner.caption(pictures, prompt, new_tokens=max_tokens),
        "descriptions",
        as_json=as_json,
    )


def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... QUESTION",
            help="Image files, or ids of items of the library; then the question.",
        ),
    ],
    model: ModelOption = None,
    max_tokens: MaxTokensOption = 64,
    library: LibraryOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Answer a question about images, with an image-to-text model that you name."""
    *images, question = words
    if not images or os.path.lexists(question):
        raise UsageError(
            'Name the images first and the question last: mmsearch ask dogs.jpg "how many dogs?"'
        )
    captioner = captioner_of(model, device)
    captioner.require_answers()
    _print_texts(
        captioner,
        images,
        library,
        lambda pictures: captioner.answers(
            pictures, [question] * len(pictures), new_tokens=max_tokens
        ),
        "answers",
        as_json=as_json,
        question=question,
    )


def captioner_of(name: str | None, device: str) -> "Captioner":
    """Load the model that was named, or the configured one; raises UsageError without either."""
    chosen = name or os.environ.get(VARIABLE)
    if not chosen:
        raise UsageError(
            "No image-to-text model is chosen; none comes with mmsearch. Name one of the model hub "
            "(Salesforce/blip-image-captioning-base describes, Salesforce/blip-vqa-base answers, "
            "Qwen/Qwen2-VL-2B-Instruct does both) or a folder: `--model NAME_OR_DIR`, or once for "
            "all: `mmsearch config set captioner NAME_OR_DIR`."
        )
    from retrieval.recognition.captions.captioner import Captioner

    return Captioner(chosen, device=device)


def _print_texts(
    captioner: "Captioner",
    names: Sequence[str],
    library: Path | None,
    write: Callable[[Sequence["Image.Image"]], list[str]],
    key: str,
    *,
    as_json: bool,
    question: str | None = None,
) -> None:
    """Print a text for each image, a batch at a time; exit 1 where one could not be had."""
    from api.cli import console
    from retrieval.recognition.captions.captioner import texts_of

    found = []
    for batch in _batches(_pictures(names, library)):
        results = iter(texts_of([one for _, one in batch if not isinstance(one, str)], write))
        for name, picture in batch:
            result = UnreadableFileError(picture) if isinstance(picture, str) else next(results)
            text, problem = (result, None) if isinstance(result, str) else (None, str(result))
            found.append({"image": name, "text": text, "error": problem})
            if problem is not None:
                complain(f"{name}: {problem}.")
            elif not as_json:
                label = f"{console.display_path(name)}: " if len(names) > 1 else ""
                console.out.print(f"{label}{text}", markup=False, soft_wrap=True)
    if as_json:
        asked = {} if question is None else {"question": question}
        print_json({"model": captioner.name, **asked, key: found})
    if any(one["error"] is not None for one in found):
        raise typer.Exit(1)


def _pictures(
    names: Sequence[str], directory: Path | None
) -> Iterator[tuple[str, "Image.Image | str"]]:
    """Yield the name and the image of what is named, or why it cannot be read."""
    library: Library | None = None
    for name in names:
        try:
            if name.isascii() and name.isdecimal() and not os.path.lexists(name):
                if library is None:
                    from retrieval.library import open_library

                    library = open_library(directory)
                yield name, _item_image(library, int(name))
            else:
                yield name, _file_image(name)
        except OSError as error:
            yield name, error.strerror or str(error)
        except UnreadableFileError as error:
            yield name, str(error)


def _file_image(path: str) -> "Image.Image":
    from retrieval.media.images import LEAST_SIDE, read_image

    return read_image(path, least_side=LEAST_SIDE)


def _item_image(library: "Library", item_id: int) -> "Image.Image":
    from retrieval.errors import NotFoundError
    from retrieval.media.images import LEAST_SIDE
    from retrieval.media.items import read_item_image

    with library.catalog.snapshot() as snapshot:
        item = snapshot.item(item_id)
    if item is None:
        raise NotFoundError(f"The library has no item {item_id}.")
    return read_item_image(item, least_side=LEAST_SIDE, max_pixels=library.max_pixels)


def _batches(
    pictures: Iterator[tuple[str, "Image.Image | str"]],
) -> Iterator[list[tuple[str, "Image.Image | str"]]]:
    from itertools import islice

    while batch := list(islice(pictures, _IMAGES_AT_ONCE)):
        yield batch
