"""Families of image-to-text models behind one interface: pictures and prompts to texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from retrieval.encoders import hub
from retrieval.encoders.checkpoints import quiet_transformers
from retrieval.recognition.captions.checkpoint import Family

BEAMS = 3
"""Beams of BLIP and of encoder-decoders: BLIP's own evaluation (Li et al. 2022) uses three."""

CAPTION_PROMPT = "Describe the picture in one sentence."
BRIEFLY = "Answer the question using a single word or phrase."
"""Added to questions of benchmarks: the format prompt of LLaVA-1.5 (Liu et al. 2023)."""

_SAMPLING = ("max_length", "temperature", "top_k", "top_p", "typical_p", "min_p")
"""Of a checkpoint's generation settings, what sampling alone uses, and what is set here."""


class TextModel(Protocol):
    """Writes a text for each picture of a batch, deterministically: by beams or greedily."""

    writes_captions: bool
    answers_questions: bool
    batch_size: int

    def captions(
        self, images: Sequence[Image.Image], prompt: str | None, new_tokens: int
    ) -> list[str]:
        """Describe upright RGB images, in at most `new_tokens` tokens each."""
        ...

    def answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        new_tokens: int,
        *,
        briefly: bool,
    ) -> list[str]:
        """Answer one question about each image, in at most `new_tokens` tokens each."""
        ...


def load_model(folder: Path, family: Family, device: str, *, as_float32: bool) -> TextModel:
    """Load a checkpoint of a family onto a device: from safetensors, without its code, offline.

    as_float32: whatever precision its weights are stored in.

    Raises ValueError where weights are missing, and whatever `transformers` raises.
    """
    import transformers

    classes = {
        Family.BLIP_CAPTIONS: transformers.BlipForConditionalGeneration,
        Family.BLIP_ANSWERS: transformers.BlipForQuestionAnswering,
        Family.ENCODER_DECODER: transformers.VisionEncoderDecoderModel,
        Family.CHAT: transformers.AutoModelForImageTextToText,
    }
    options = {"trust_remote_code": False, "local_files_only": True}
    with quiet_transformers(), hub.offline(), hub.without_remote_code(), hub.without_pickle():
        if family is Family.CHAT:
            processor = transformers.AutoProcessor.from_pretrained(folder, **options)
        else:
            processor = transformers.AutoImageProcessor.from_pretrained(folder, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        model, report = classes[family].from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **options
        )
    # A weight that is not in the file would be random. Generation never reads the pooler.
    unset = sorted(
        key
        for key in report["missing_keys"]
        if ".pooler." not in key and not key.endswith("position_ids")
    )
    if unset:
        raise ValueError(f"{len(unset)} weights are missing, such as {unset[0]}")
    model = (model.float() if as_float32 else model).to(device).eval()
    if family is Family.CHAT:
        return ChatModel(model, processor)
    if family is Family.BLIP_ANSWERS:
        return BlipAnswers(model, processor, tokenizer)
    return PixelCaptions(model, processor, tokenizer)


class _FromPixels:
    """What models that see pixels alone share; each does one of both, and refuses the other."""

    writes_captions, answers_questions, batch_size = False, False, 8

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any) -> None:
        self._model, self._processor, self._tokenizer = model, image_processor, tokenizer
        _settle(model)

    def captions(
        self, images: Sequence[Image.Image], prompt: str | None, new_tokens: int
    ) -> list[str]:
        """Raise NotImplementedError: it only answers questions."""
        raise NotImplementedError

    def answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        new_tokens: int,
        *,
        briefly: bool,
    ) -> list[str]:
        """Raise NotImplementedError: it takes no questions."""
        raise NotImplementedError


class PixelCaptions(_FromPixels):
    """A model that writes captions from pixels alone: BLIP, ViT with GPT-2."""

    writes_captions = True

    def captions(
        self, images: Sequence[Image.Image], prompt: str | None, new_tokens: int
    ) -> list[str]:
        """Describe images; a prompt is what each caption begins with, for BLIP only."""
        inputs = _pixels(self._processor, images, self._model)
        if prompt and self._model.config.model_type == "blip":
            inputs |= self._tokenizer([prompt] * len(images), return_tensors="pt").to(
                self._model.device
            )
            inputs.pop("token_type_ids", None)
        written = _generate(self._model, inputs, new_tokens, BEAMS)
        return _decoded(self._tokenizer, written)


class BlipAnswers(_FromPixels):
    """BLIP for visual question answering: short answers, no captions."""

    answers_questions = True

    def answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        new_tokens: int,
        *,
        briefly: bool,
    ) -> list[str]:
        """Answer questions, always briefly; each on its own, since `transformers` masks no padding.

        Of padded questions, `BlipForQuestionAnswering.generate` lets the decoder read the padding,
        so an answer would depend on the other questions of the batch.
        """
        pixels = _pixels(self._processor, images, self._model)["pixel_values"]
        most = self._model.config.text_config.max_position_embeddings
        answers = []
        for image, question in zip(pixels, questions, strict=True):
            tokens = self._tokenizer(
                question, truncation=True, max_length=most, return_tensors="pt"
            ).to(self._model.device)
            inputs = {
                "pixel_values": image[None],
                "input_ids": tokens["input_ids"],
                "attention_mask": tokens["attention_mask"],
            }
            answers += _decoded(self._tokenizer, _generate(self._model, inputs, new_tokens, BEAMS))
        return answers


class ChatModel:
    """A vision-language model that is asked through the chat template of its checkpoint.

    Greedy, as the authors of such models evaluate them. Prompts are padded at the left, so that
    texts do not depend on the rest of the batch.
    """

    writes_captions, answers_questions, batch_size = True, True, 4

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        _settle(model)

    def captions(
        self, images: Sequence[Image.Image], prompt: str | None, new_tokens: int
    ) -> list[str]:
        """Describe images, as the prompt asks."""
        return self._written(images, [prompt or CAPTION_PROMPT] * len(images), new_tokens)

    def answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        new_tokens: int,
        *,
        briefly: bool,
    ) -> list[str]:
        """Answer one question about each image."""
        asked = [f"{question}\n{BRIEFLY}" if briefly else question for question in questions]
        return self._written(images, asked, new_tokens)

    def _written(
        self, images: Sequence[Image.Image], prompts: Sequence[str], new_tokens: int
    ) -> list[str]:
        chats = [
            self._processor.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": prompt}],
                    }
                ],
                add_generation_prompt=True,
                tokenize=False,
            )
            for prompt in prompts
        ]
        inputs = self._processor(
            text=chats, images=[[image] for image in images], padding=True, return_tensors="pt"
        ).to(self._model.device, self._model.dtype)
        written = _generate(self._model, inputs, new_tokens, 1)[:, inputs["input_ids"].shape[1] :]
        # Of a model that thinks first, what comes after that.
        return [
            text.rpartition("</think>")[2] for text in _decoded(self._processor.tokenizer, written)
        ]


def _settle(model: Any) -> None:
    """Drop settings of a checkpoint that would contradict those given to `generate`."""
    for part in (model, getattr(model, "text_decoder", None)):
        config = getattr(part, "generation_config", None)
        for name in _SAMPLING if config else ():
            if hasattr(config, name):
                setattr(config, name, None)


def _pixels(processor: Any, images: Sequence[Image.Image], model: Any) -> dict[str, torch.Tensor]:
    values = processor(list(images), return_tensors="pt")["pixel_values"]
    return {"pixel_values": values.to(model.device, model.dtype)}


def _generate(model: Any, inputs: Any, new_tokens: int, beams: int) -> torch.Tensor:
    with quiet_transformers(), torch.inference_mode():
        written: torch.Tensor = model.generate(
            **inputs,
            max_new_tokens=new_tokens,
            num_beams=beams,
            do_sample=False,
            num_return_sequences=1,
        )
    return written


def _decoded(tokenizer: Any, tokens: torch.Tensor) -> list[str]:
    texts: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts
