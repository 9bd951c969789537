"""What training an encoder has changed: measured, and written for people."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.encoders.exports.store import LOCAL_DIR

if TYPE_CHECKING:
    from api.cli.training_data import TrainingData
    from benchmarks.datasets import RetrievalDataset
    from benchmarks.quality.embedding_cache import EmbeddingCache
    from retrieval.training.encoders.fine_tuning import (
        EncoderEpoch,
        EncoderResult,
        EncoderTraining,
    )
    from retrieval.training.encoders.model_card import Comparison, Measured
    from retrieval.training.validation import Recalls

METRICS = {"hit_recall@1": "R@1", "hit_recall@5": "R@5", "hit_recall@10": "R@10"}
DIRECTIONS = {"t2i": "text to image", "i2t": "image to text"}

_OF_MODES = {
    "layers": ("partial", "lora"),
    "layer_norms": ("partial",),
    "gradual": ("full", "partial", "layerwise"),
    "layer_decay": ("layerwise",),
    "rank": ("lora",),
    "alpha": ("lora",),
}
"""Settings that count in some modes alone."""


class Measurement:
    """Datasets to measure encoders on, with the stages of the search engine."""

    def __init__(
        self,
        data: Sequence["TrainingData"],
        others: Sequence["RetrievalDataset"],
        device: str,
        cache: "EmbeddingCache",
    ) -> None:
        from api.cli.training_data import to_measure

        self._datasets = {
            f"{each.name} (validation)": to_measure(
                each.validation, each.name, each.specification, each.languages
            )
            for each in data
            if each.validation
        }
        self._datasets |= {f"{each.name} ({each.split or 'all'}, other)": each for each in others}
        self._device = device
        self._cache = cache

    def run(self, name: str) -> "dict[str, dict[str, Measured]]":
        """Measure an encoder: figures by dataset, and by direction and metric."""
        from api.cli import console
        from benchmarks.quality.results import record_of
        from benchmarks.quality.retrieval import Setup, measure_quality
        from retrieval.encoders.registry import load_encoder
        from retrieval.training.encoders.model_card import Measured

        encoder = load_encoder(name, self._device)
        found = {}
        for label, dataset in self._datasets.items():
            with console.stage_progress() as progress:
                result = measure_quality(
                    dataset, encoder, Setup(), self._cache, on_progress=progress
                )
            record = record_of(result, tuple(METRICS))
            found[label] = {
                f"{DIRECTIONS[direction]} {METRICS[metric]}": Measured(**asdict(figure))
                for direction, measured in record.directions.items()
                for metric, figure in measured.metrics.items()
            }
        return found


def most_memory(device: str) -> int:
    """Return the most bytes of memory that this process held: on a GPU there, else resident."""
    import torch

    from benchmarks.speed.processes import peak_bytes

    memory = peak_bytes()
    if device.startswith("cuda"):
        memory = max(memory, torch.cuda.max_memory_allocated())
    return memory


def write_card(
    config: "EncoderTraining",
    weights: str,
    data: Sequence["TrainingData"],
    result: "EncoderResult",
    figures: Sequence["Comparison"],
    seconds: float,
    memory: int,
) -> Path:
    """Write the model card of a run into its output; memory: the most that it held, in bytes."""
    from importlib.metadata import version

    from retrieval.training.encoders.model_card import DataCard, ModelCard

    notes = [
        f"{each.specification} has no split for validation: a tenth of its photos was drawn for it."
        for each in data
        if each.is_divided
    ]
    if result.damaged:
        notes.append(result.damaged)
    card = ModelCard(
        encoder=f"{LOCAL_DIR}{result.encoder}",
        base=config.encoder,
        base_weights=weights,
        command=shlex.join(["mmsearch", *sys.argv[1:]]),
        data=[
            DataCard(
                each.name,
                each.specification,
                each.digest,
                len(each.train),
                sum(len(photo.captions) for photo in each.train),
                len(each.validation),
                each.languages,
            )
            for each in data
        ],
        settings=_settings_of_mode(json.loads(config.recipe())),
        figures=figures,
        shares={trial.share: trial.recalls.mean for trial in result.trials},
        share=result.share,
        epochs=len(result.epochs),
        steps=result.steps,
        trained=result.trained,
        parameters=result.parameters,
        seconds=seconds,
        memory_bytes=memory,
        device=config.device,
        software={name: version(name) for name in ("torch", "open_clip_torch")},
        notes=notes,
    )
    return card.write(config.output)


def _settings_of_mode(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not set, and what is of other modes than the one of the run."""
    return {
        name: value
        for name, value in settings.items()
        if value not in (None, "") and settings["mode"] in _OF_MODES.get(name, (settings["mode"],))
    }


def comparisons(
    before: "Mapping[str, Mapping[str, Measured]]", after: "Mapping[str, Mapping[str, Measured]]"
) -> "list[Comparison]":
    """Pair figures of before with those of after, as `Measurement.run` returns them."""
    from retrieval.training.encoders.model_card import Comparison

    return [
        Comparison(dataset, metric, figure, after[dataset][metric])
        for dataset, figures in before.items()
        for metric, figure in figures.items()
    ]


def result_body(
    result: "EncoderResult", figures: "Sequence[Comparison]", seconds: float, memory: int
) -> dict[str, Any]:
    """Make what `--json` prints of a run."""
    return {
        "encoder": f"{LOCAL_DIR}{result.encoder}",
        "output": str(result.encoder.parent),
        "share": result.share,
        "trials": [{"share": t.share, "mean_recall": t.recalls.mean} for t in result.trials],
        "figures": [asdict(each) for each in figures],
        "epochs": [asdict(each) for each in result.epochs],
        "stopped_early": result.stopped_early,
        "steps": result.steps,
        "trained_parameters": result.trained,
        "parameters": result.parameters,
        "unreadable": result.damaged,
        "seconds": round(seconds, 1),
        "memory_bytes": memory,
    }


def report(body: Mapping[str, Any]) -> str:
    """Tabulate what training changed."""
    rows = body["figures"]
    width = max(len(f"{row['dataset']}, {row['metric']}") for row in rows)
    lines = []
    for row in rows:
        before, after = (100 * row[when]["value"] for when in ("before", "after"))
        name = f"{row['dataset']}, {row['metric']}"
        lines.append(f"{name:<{width}}  {before:5.1f} -> {after:5.1f}  ({after - before:+.1f})")
    lines.append(f"Share of the new weights: {body['share']:g}")
    if body["unreadable"]:
        lines.append(body["unreadable"])
    lines.append(f"Model card: {Path(body['output']) / 'README.md'}")
    lines.append(f"Encoder: {body['encoder']}")
    lines.append(f"Search with it: mmsearch index PICTURES --encoder {body['encoder']}")
    return "\n".join(lines)


def describe_data(data: "TrainingData") -> str:
    """Count the photos of a dataset by what they are for."""
    captions = sum(len(photo.captions) for photo in data.train)
    if not data.train:
        return f"{data.name}: streamed; {len(data.validation):,} photos for validation"
    told = (
        f"{data.name}: {len(data.train):,} photos with {captions:,} captions to train on, "
        f"{len(data.validation):,} photos for validation"
    )
    return f"{told} (drawn from all: there is no split for it)" if data.is_divided else told


def in_a_line(figures: "Mapping[str, Measured]") -> str:
    """Format figures of one dataset, as `percentages` does those of an epoch."""
    from retrieval.training.validation import Recalls

    to_image, to_text = (
        tuple(figures[f"{direction} {metric}"].value for metric in METRICS.values())
        for direction in DIRECTIONS.values()
    )
    return percentages(Recalls.from_json({"text_to_image": to_image, "image_to_text": to_text}))


def epoch_line(epoch: "EncoderEpoch") -> str:
    """Say how an epoch went."""
    mark = ", best so far" if epoch.best else ""
    return (
        f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, {percentages(epoch.recalls)} "
        f"({epoch.seconds:.0f} s){mark}"
    )


def percentages(recalls: "Recalls") -> str:
    """Format recall@1, 5 and 10 of both directions in percent."""
    to_image = "/".join(f"{100 * share:.1f}" for share in recalls.text_to_image)
    to_text = "/".join(f"{100 * share:.1f}" for share in recalls.image_to_text)
    return f"R@1/5/10 text to image {to_image}, image to text {to_text}"
