"""`mmsearch bench captions`: captions and answers against those of people."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.bench.options import JsonFileOption
from api.cli.describe import ModelOption, captioner_of
from api.cli.options import (
    DeviceOption,
    JsonOption,
    LanguageOption,
    SplitOption,
    option,
    print_result,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.captions.measurement import AnswerResult, CaptionResult

_CHINESE = "zh"


def captions(
    dataset: Annotated[
        str | None,
        option("--dataset", "FORMAT:PATH", "Dataset of images with captions of people."),
    ] = None,
    split: SplitOption = None,
    language: LanguageOption = None,
    model: ModelOption = None,
    people: Annotated[
        bool,
        typer.Option(
            "--people", help="Score captions of people instead: one of each image by the others."
        ),
    ] = False,
    tokenizer: Annotated[
        str | None,
        option(
            "--tokenizer",
            "13a|zh|ptb",
            "Tokenizer: 13a or zh of sacrebleu, or ptb, the official one in Java. (default: 13a; "
            "zh for captions in Chinese)",
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        option(
            "--questions",
            "FILE",
            "Questions about images to answer instead: JSON lines, or the questions of VQA.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None, option("--annotations", "FILE", "Answers of people to the questions of VQA.")
    ] = None,
    images: Annotated[
        Path | None,
        option("--images", "DIR", "Directory of the questions' images. (default: that of FILE)"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Use only the first N images or questions."),
    ] = None,
    json_file: JsonFileOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure captions by BLEU and CIDEr, and answers to questions by the accuracy of VQA."""
    if (dataset is None) == (questions is None):
        raise UsageError("Give either --dataset, to describe images, or --questions, to answer.")
    if people and (model or questions):
        raise UsageError("--people scores the captions of a dataset, without a model.")
    if questions is not None:
        answered = _measure_answers(questions, annotations, images, model, device, limit)
        body, said = _answers_body(answered), _answers_text(answered)
    else:
        chosen = tokenizer or (_CHINESE if (language or "").startswith(_CHINESE) else "13a")
        described = _measure_captions(
            str(dataset), split, language, None if people else (model, device), chosen, limit
        )
        body, said = _captions_body(described), _captions_text(described)
        body |= {"dataset": dataset, "split": split, "language": language}
    if json_file:
        json_file.write_text(json.dumps(body, ensure_ascii=False, indent=1), encoding="utf-8")
    brief = {key: value for key, value in body.items() if key not in {"captions", "answers"}}
    print_result(brief, lambda: said, as_json=as_json)


def _measure_captions(
    dataset: str,
    split: str | None,
    language: str | None,
    model: tuple[str | None, str] | None,
    tokenizer: str,
    limit: int | None,
) -> "CaptionResult":
    """Describe the images of a dataset; model: its name and device, None: people."""
    from api.cli import console
    from benchmarks.captions.measurement import measure_captions, measure_people
    from benchmarks.captions.scores import require_tokenizer
    from benchmarks.datasets import load_dataset

    require_tokenizer(tokenizer)
    loaded = load_dataset(dataset, split=split, language=language)
    if limit is not None:
        loaded = loaded.first_images(limit)
    if model is None:
        return measure_people(loaded, tokenizer)
    captioner = captioner_of(*model)
    with console.stage_progress() as progress:
        return measure_captions(loaded, captioner, tokenizer, progress)


def _measure_answers(
    questions: Path,
    annotations: Path | None,
    images: Path | None,
    model: str | None,
    device: str,
    limit: int | None,
) -> "AnswerResult":
    from api.cli import console
    from benchmarks.captions.measurement import measure_answers
    from benchmarks.captions.vqa import load_questions

    loaded = load_questions(questions, annotations, images)[:limit]
    captioner = captioner_of(model, device)
    with console.stage_progress() as progress:
        return measure_answers(loaded, captioner, progress)


def _captions_body(result: "CaptionResult") -> dict[str, Any]:
    return {
        "model": result.model,
        "identity": result.identity,
        "tokenizer": result.tokenizer,
        "images": result.images,
        "failed": result.failed,
        "seconds": result.seconds,
        "scores": result.scores,
        "captions": result.captions,
    }


def _answers_body(result: "AnswerResult") -> dict[str, Any]:
    return {
        "model": result.model,
        "identity": result.identity,
        "questions": len(result.answers),
        "failed": result.failed,
        "seconds": result.seconds,
        "accuracy": result.accuracy,
        "answers": [
            {
                "image": str(question.image),
                "question": question.text,
                "answer": text,
                "accuracy": value,
            }
            for question, text, value in result.answers
        ],
    }


def _captions_text(result: "CaptionResult") -> str:
    lines = [f"{result.model}, {result.images:,} images, tokenizer {result.tokenizer}"]
    lines += [
        f"{name.replace('bleu_', 'BLEU-').replace('cider', 'CIDEr'):<7} {100 * value:6.1f}"
        for name, value in result.scores.items()
    ]
    return "\n".join([*lines, *_cost(result)])


def _answers_text(result: "AnswerResult") -> str:
    first = f"{result.model}, {len(result.answers):,} questions"
    return "\n".join([first, f"accuracy {100 * result.accuracy:.1f}", *_cost(result)])


def _cost(result: "CaptionResult | AnswerResult") -> list[str]:
    failed = [f"{result.failed:,} failed, and count as empty"] if result.failed else []
    return [*failed, *([f"{result.seconds:.0f} s"] if result.seconds else [])]
