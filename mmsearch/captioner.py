"""Captions of images, and answers to questions about them."""

from collections.abc import Iterable
from typing import overload

from mmsearch.encoder import is_one_input
from mmsearch.inputs import ImageLike, as_image
from retrieval.media.images import LEAST_SIDE
from retrieval.recognition.captions import captioner as models
from retrieval.recognition.captions.captioner import DEFAULT_NEW_TOKENS


class Captioner:
    """Describes images, with an image-to-text model of `transformers` that you name.

    >>> captioner = Captioner("Qwen/Qwen2-VL-2B-Instruct")            # doctest: +SKIP
    >>> captioner.describe("dogs.jpg")                                # doctest: +SKIP
    >>> captioner.ask("dogs.jpg", "how many dogs?")                   # doctest: +SKIP

    BLIP, ViT with GPT-2 and vision-language models with a chat template, such as Qwen-VL. Texts are
    deterministic. May be used from several threads, which wait for one another.

    Args:
        name: Repository of the model hub, or a folder as `save_pretrained` writes it; weights are
            read in safetensors format only, and no code of the checkpoint is run.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        UsageError: Neither a folder nor the name of a repository.
        EncoderUnavailableError: The model cannot be had, or is of a kind that is not supported.
    """

    def __init__(self, name: str, *, device: str = "auto") -> None:
        if not isinstance(name, str):
            raise TypeError(f"The name of a model is a text, not {name!r:.60}.")
        self._model = models.Captioner(name, device=device)

    @property
    def name(self) -> str:
        """Name of the model, or its folder."""
        return self._model.name

    @property
    def writes_captions(self) -> bool:
        """Whether `describe` works; BLIP for questions only answers."""
        return self._model.writes_captions

    @property
    def answers_questions(self) -> bool:
        """Whether `ask` works; BLIP for captions and ViT with GPT-2 only describe."""
        return self._model.answers_questions

    @overload
    def describe(  # type: ignore[overload-overlap]  # a path is a text: one image
        self, images: ImageLike, prompt: str | None = None, *, max_tokens: int = DEFAULT_NEW_TOKENS
    ) -> str: ...

    @overload
    def describe(
        self,
        images: Iterable[ImageLike],
        prompt: str | None = None,
        *,
        max_tokens: int = DEFAULT_NEW_TOKENS,
    ) -> list[str]: ...

    def describe(
        self,
        images: ImageLike | Iterable[ImageLike],
        prompt: str | None = None,
        *,
        max_tokens: int = DEFAULT_NEW_TOKENS,
    ) -> str | list[str]:
        """Describe images in words.

        Args:
            images: Paths of image files, their contents, PIL images, arrays of uint8, (H, W, 3).
                One alone gives one text.
            prompt: What to write, for models with a chat template; how each text begins, for BLIP.
            max_tokens: Maximum length of a text in tokens, at most 512.

        Returns:
            A text for each image, in order; empty where the model wrote nothing.

        Raises:
            UsageError: An image cannot be read, or the model only answers questions.
            UnreadableFileError: The model failed on an image.
        """
        if is_one_input(images):
            return self.describe([images], prompt, max_tokens=max_tokens)[0]  # type: ignore[list-item]
        pictures = (as_image(image, LEAST_SIDE) for image in images)  # type: ignore[union-attr, arg-type]
        return self._model.caption(pictures, prompt, new_tokens=max_tokens)

    def ask(self, image: ImageLike, question: str, *, max_tokens: int = DEFAULT_NEW_TOKENS) -> str:
        """Answer a question about an image; raises as `describe`."""
        picture = as_image(image, LEAST_SIDE)
        return self._model.answer(picture, question, new_tokens=max_tokens)

    def __repr__(self) -> str:
        return f"Captioner({self.name!r})"
