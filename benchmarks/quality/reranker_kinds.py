"""Compare kinds of rerankers: trained on the same data with equal parameters, in equal time.

    result = compare_kinds(KindsComparison(dataset=..., output=..., cache=..., ...), encoder)
    print(kinds_markdown(result))

Each kind has a folder of its own below the output; what is done there is not done again.
"""

import bisect
import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.metrics import Judgments
from benchmarks.metrics.hit_recall import hit_recall
from benchmarks.quality.significance import PairedTest, confidence_interval, paired_test
from benchmarks.speed.rerank_latency import measure_reranking
from retrieval.encoders.base import Encoder, require_tokens
from retrieval.errors import UsageError, require_at_least
from retrieval.files import make_directories, write_atomically
from retrieval.rerankers.cross_attention import CrossAttentionReranker
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import JOINT_KINDS, KINDS, Kind
from retrieval.training.captions import read_captioned_photos
from retrieval.training.feature_folder import Progress
from retrieval.training.reranked import Reranked, best_weight
from retrieval.training.rerankers import (
    RerankerTraining,
    default_layers,
    seconds_per_step,
    train_reranker,
)

DEPTHS = (1, 10)
_WIDEST = 4096
_TOLERANCE = 0.05
_PLAN, _RECORD = "plan.json", "measured.json"

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, kw_only=True)
class KindsComparison:
    """What is compared.

    dataset: directory with `captions.jsonl` (splits `train` and `val`) and `images/`.
    output: directory for the models and what was measured.
    cache: directory for the tokens of the encoder.
    kinds: as KIND or KIND:DEPTH; the others are compared with the first.
    languages: caption languages. limit: use only the first photos of each split.
    width: channels of the first kind; the others get the width that gives them nearest to its
    number of parameters. heads: attention heads.
    seconds: time to train each kind; the number of steps is found by timing a few.
    steps: steps an epoch of each kind instead. epochs: number of them.
    batch_size: photos a step. candidates: number of candidates to rerank. rounds: of the latency.
    """

    dataset: Path
    output: Path
    cache: Path
    kinds: tuple[str, ...]
    languages: tuple[str, ...] = ("en",)
    limit: int | None = None
    width: int = 256
    heads: int = 4
    seconds: float = 1800.0
    steps: int | None = None
    epochs: int = 4
    batch_size: int = 16
    candidates: int = 50
    rounds: int = 20
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width", "heads", "epochs", "candidates", "rounds")
        if not self.kinds:
            raise UsageError("kinds must name at least one kind.")
        if repeated := [name for name in self.kinds if self.kinds.count(name) > 1]:
            raise UsageError(f"kinds names {repeated[0]} twice.")
        for name in self.kinds:
            layers_of(name)
        if self.width % self.heads:
            raise UsageError(f"width ({self.width}) must be a multiple of heads ({self.heads}).")
        if not 0 < self.seconds < math.inf:
            raise UsageError(f"seconds must be greater than 0, not {self.seconds}.")


@dataclass(frozen=True)
class KindPlan:
    """The shape of a kind, and how it is trained.

    name: as it was asked for. parameters: number of trained ones. steps: of an epoch.
    """

    name: str
    kind: str
    depth: int
    feed_forward: int
    width: int
    parameters: int
    steps: int


@dataclass(frozen=True)
class KindRecord:
    """What was measured of a kind.

    training_seconds: of the steps, without what was measured between the epochs. match_weight: of
    the model, chosen on all of `val`. text_to_image, image_to_text: rank of the right photo of
    each caption, and of the first right caption of each photo, 0 for none among the candidates;
    alone: the same of the encoder. encode_ms, rerank_ms: medians, measured in turn.
    """

    plan: KindPlan
    training_seconds: float
    match_weight: float
    text_to_image: list[int]
    image_to_text: list[int]
    alone_text_to_image: list[int]
    alone_image_to_text: list[int]
    encode_ms: float
    rerank_ms: float

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "KindRecord":
        """Parse the JSON of `dataclasses.asdict`."""
        return cls(**{**fields, "plan": KindPlan(**fields["plan"])})


@dataclass(frozen=True)
class KindsResult:
    """The records of all kinds, in the order that was asked for; photo_of: of each caption."""

    settings: KindsComparison
    encoder: str
    photo_of: list[int]
    records: tuple[KindRecord, ...]


def layers_of(name: str) -> tuple[Kind, dict[str, int]]:
    """Read KIND or KIND:DEPTH: the kind, and its `depth` and `feed_forward`.

    Raises UsageError for another kind, or a depth that is none or of a kind without layers.
    """
    kind, colon, depth = name.partition(":")
    is_depth = kind in JOINT_KINDS and re.fullmatch("[1-9][0-9]?", depth)
    if kind not in KINDS or (colon and not is_depth):
        raise UsageError(
            f"kinds takes {', '.join(KINDS)}, and a depth after {' and '.join(JOINT_KINDS)} if "
            f"wanted (cross:2), not {name!r}."
        )
    layers = default_layers(kind) | ({"depth": int(depth)} if colon else {})
    return kind, layers


def compare_kinds(
    settings: KindsComparison,
    encoder: Encoder,
    *,
    on_kind: Callable[[KindRecord], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> KindsResult:
    """Train and measure each kind that is not done yet.

    The weight of the match is chosen on one half of the photos of `val` for the other one, and the
    other way round, so that it is never chosen on what is measured; the best epoch was chosen on
    captions of both halves.

    Args:
        settings: what is compared.
        encoder: whose candidates are reranked.
        on_kind: called with each record, also of kinds that were done before.
        on_progress: called with stage, done and total.

    Raises:
        NotFoundError: the dataset does not exist.
        UsageError: the dataset cannot be used, or `output` holds what was measured with other
            settings.
    """
    photos = read_captioned_photos(settings.dataset, "val", settings.languages)[: settings.limit]
    photo_of = np.repeat(np.arange(len(photos)), [len(photo.captions) for photo in photos])
    records = []
    for name in settings.kinds:
        folder = settings.output / name.replace(":", "-")
        training = _plan(settings, name, encoder, folder, on_progress)
        record = folder / _RECORD
        if not record.exists():
            measured = _measure(settings, training, encoder, folder, photo_of, on_progress)
            write_atomically(record, json.dumps(asdict(measured)).encode())
        records.append(_read(record, KindRecord.from_json))
        on_kind(records[-1])
    return KindsResult(settings, encoder.space.encoder, photo_of.tolist(), tuple(records))


def _plan(
    settings: KindsComparison, name: str, encoder: Encoder, folder: Path, on_progress: Progress
) -> KindPlan:
    """Read the plan of a kind, or make it: its width, and the steps that fit in the time."""
    wanted = {**asdict(settings), "space": encoder.space.id, "first": settings.kinds[0]}
    for key in ("output", "cache", "kinds", "device", "rounds"):
        del wanted[key]
    wanted["dataset"] = str(settings.dataset.resolve())
    file = folder / _PLAN
    # As JSON gives it back, with lists for tuples.
    wanted = json.loads(json.dumps(wanted))
    if file.exists():
        found, plan = _read(file, lambda body: (body["settings"], KindPlan(**body["plan"])))
        if found != wanted:
            raise UsageError(
                f"{folder} holds a kind that was trained with other settings "
                f"({found}, now {wanted}). Choose another --output."
            )
        return plan
    kind, layers = layers_of(name)
    tokens, width = token_shape(encoder), settings.width
    if name != settings.kinds[0]:
        target = parameter_count(settings.kinds[0], tokens, width, settings.heads)
        width = matched_width(name, tokens, settings.heads, target)
    count = parameter_count(name, tokens, width, settings.heads)
    plan = KindPlan(name, kind, **layers, width=width, parameters=count, steps=settings.steps or 1)
    if settings.steps is None:
        config = _training(settings, plan, folder)
        each = seconds_per_step(config, encoder, on_progress=on_progress)
        plan = KindPlan(
            **{**asdict(plan), "steps": max(1, round(settings.seconds / settings.epochs / each))}
        )
    make_directories(folder)
    content = {"settings": wanted, "plan": asdict(plan)}
    write_atomically(file, json.dumps(content, indent=2).encode())
    return plan


def _read(file: Path, parse: Callable[[dict[str, Any]], _Parsed]) -> _Parsed:
    """Read a file that an earlier run wrote; raises UsageError where it is damaged."""
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error!r}. Remove it, and run again.") from error


def _training(settings: KindsComparison, plan: KindPlan, folder: Path) -> RerankerTraining:
    return RerankerTraining(
        dataset=settings.dataset,
        output=folder,
        cache=settings.cache,
        languages=settings.languages,
        limit=settings.limit,
        kind=cast("Kind", plan.kind),
        width=plan.width,
        heads=settings.heads,
        depth=plan.depth,
        feed_forward=plan.feed_forward,
        epochs=settings.epochs,
        patience=settings.epochs,
        steps=plan.steps,
        batch_size=settings.batch_size,
        candidates=settings.candidates,
        rerank_depth=settings.candidates,
        seed=settings.seed,
        device=settings.device,
        resume=True,
    )


def _measure(
    settings: KindsComparison,
    plan: KindPlan,
    encoder: Encoder,
    folder: Path,
    photo_of: NDArray[np.int64],
    on_progress: Progress,
) -> KindRecord:
    result = train_reranker(_training(settings, plan, folder), encoder, on_progress=on_progress)
    both = result.text_to_image, result.image_to_text
    groups = photo_of, np.arange(len(result.image_to_text.match))
    to_image, to_text = crossed_ranks(both, groups)
    latency = measure_reranking(
        settings.dataset / "images",
        encoder,
        CrossAttentionReranker(result.model, require_tokens(encoder), settings.device),
        candidates=min(settings.candidates, len(both[1].match)),
        rounds=settings.rounds,
    )
    return KindRecord(
        plan=plan,
        training_seconds=sum(epoch.training_seconds for epoch in result.epochs),
        match_weight=result.match_weight,
        text_to_image=_listed(to_image),
        image_to_text=_listed(to_text),
        alone_text_to_image=_listed(both[0].ranks(0.0)),
        alone_image_to_text=_listed(both[1].ranks(0.0)),
        encode_ms=statistics.median(latency.encode_ms),
        rerank_ms=statistics.median(latency.rerank_ms),
    )


def crossed_ranks(
    trials: Sequence[Reranked], photos: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.float64]]:
    """Rank the queries of each half of the photos with the weight that suits the other half best.

    Args:
        trials: candidates, of one or both directions.
        photos: number of the photo of each of their queries; the halves are even and odd numbers.

    Returns:
        The ranks of the queries of each trial, (q,) float64, infinity for none.
    """
    ranks = [np.empty(len(trial.match)) for trial in trials]
    for half in (0, 1):
        of_other = [trial.part(of % 2 != half) for trial, of in zip(trials, photos, strict=True)]
        weight = best_weight([trial for trial in of_other if len(trial.match)] or trials)
        for found, trial, of in zip(ranks, trials, photos, strict=True):
            found[of % 2 == half] = trial.part(of % 2 == half).ranks(weight)
    return ranks


def token_shape(encoder: Encoder) -> tuple[int, int, int]:
    """Return the channels of image and text tokens of an encoder, and an image's number of them."""
    tokens = require_tokens(encoder)
    pixels = np.stack([tokens.preprocess(Image.new("RGB", (64, 64)))])
    _, positions, image_width = tokens.image_tokens(pixels).values.shape
    return image_width, tokens.text_tokens(["a"]).values.shape[2], positions


def parameter_count(name: str, tokens: tuple[int, int, int], width: int, heads: int) -> int:
    """Count the trained parameters of a kind for tokens of a `token_shape`."""
    kind, layers = layers_of(name)
    training = RerankerTraining(
        dataset=Path(),
        output=Path(),
        cache=Path(),
        kind=kind,
        width=width,
        heads=heads,
        depth=layers["depth"],
        feed_forward=layers["feed_forward"],
    )
    with torch.device("meta"):
        model = CrossAttentionModel(training.shape(*tokens))
    return sum(parameter.numel() for parameter in model.parameters())


def matched_width(name: str, tokens: tuple[int, int, int], heads: int, target: int) -> int:
    """Find the width, a multiple of `heads`, that gives a kind nearest to a number of parameters.

    Raises UsageError if no width gives it within 5%.
    """

    def count(multiple: int) -> int:
        return parameter_count(name, tokens, multiple * heads, heads)

    multiples = range(1, _WIDEST // heads + 1)
    above = bisect.bisect_left(multiples, target, key=count)
    near = [multiples[place] for place in (above - 1, above) if 0 <= place < len(multiples)]
    best = min(near, key=lambda multiple: abs(count(multiple) - target))
    if abs(count(best) - target) > _TOLERANCE * target:
        raise UsageError(
            f"No width of kind {name} gives within {_TOLERANCE:.0%} of {target:,} parameters. "
            "Choose another --width or fewer --heads."
        )
    return best * heads


def kinds_json(result: KindsResult) -> dict[str, Any]:
    """Sum the result up: recalls with 95% intervals, and the ranks of all queries.

    `difference` is that of text to image R@1 from the first kind, with a paired test.
    """
    settings = asdict(result.settings)
    for name in ("dataset", "output", "cache"):
        del settings[name]
    first = result.records[0]
    return {
        "encoder": result.encoder,
        "settings": settings,
        "photo_of_caption": result.photo_of,
        "alone": _recalls(result, first, "alone_"),
        "kinds": [
            {
                **asdict(record),
                "recalls": _recalls(result, record),
                "difference": None if record is first else _difference(result, record)._asdict(),
            }
            for record in result.records
        ],
    }


def kinds_markdown(body: dict[str, Any]) -> str:
    """Format the table of kinds, of `kinds_json`: recalls in percent, size, time and cost."""
    settings, kinds = body["settings"], body["kinds"]
    lines = [
        f"| kind | parameters | steps | training, s | rerank {settings['candidates']}, ms "
        "| of a query's encoding | text to image R@1 | R@10 | image to text R@1 | R@10 "
        f"| R@1 less that of {kinds[0]['plan']['name']} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| `{body['encoder']}` alone | | | | | | {_cells(body['alone'])} | |",
    ]
    for kind in kinds:
        plan, test = kind["plan"], kind["difference"]
        compared = ""
        if test is not None:
            difference, low, high = (
                f"{100 * test[name]:+.1f}" for name in ("difference", "low", "high")
            )
            compared = f"{difference} ({low} to {high}, p {test['p_value']:.3f})"
        lines.append(
            f"| {plan['name']} (width {plan['width']}) | {plan['parameters']:,} "
            f"| {plan['steps'] * settings['epochs']:,} | {kind['training_seconds']:,.0f} "
            f"| {kind['rerank_ms']:.1f} | {kind['rerank_ms'] / kind['encode_ms']:.2f} "
            f"| {_cells(kind['recalls'])} | {compared} |"
        )
    return "\n".join([*lines, ""])


def _cells(recalls: dict[str, dict[str, float]]) -> str:
    """Format recalls as four cells."""
    return " | ".join(
        f"{100 * each['value']:.1f} ({100 * each['low']:.1f} to {100 * each['high']:.1f})"
        for each in recalls.values()
    )


def _recalls(
    result: KindsResult, record: KindRecord, prefix: str = ""
) -> dict[str, dict[str, float]]:
    """Compute recall with its interval, both ways at each depth, in the order of the table."""
    found = {}
    for direction in ("text_to_image", "image_to_text"):
        for depth in DEPTHS:
            judged, groups = _judgments(result, getattr(record, prefix + direction))
            low, high = confidence_interval(judged, f"hit_recall@{depth}", groups=groups)
            value = float(hit_recall(judged, depth).mean())
            found[f"{direction}@{depth}"] = {"value": value, "low": low, "high": high}
    return found


def _difference(result: KindsResult, record: KindRecord) -> PairedTest:
    """Compare R@1 of captions with that of the first kind."""
    judged, groups = _judgments(result, record.text_to_image)
    first, _ = _judgments(result, result.records[0].text_to_image)
    return paired_test(judged, first, "hit_recall@1", groups=groups)


def _judgments(result: KindsResult, ranks: list[int]) -> tuple[Judgments, list[int]]:
    """Make judgements of the ranks of captions or photos, and number the photo of each."""
    count = len(ranks)
    groups = result.photo_of if count == len(result.photo_of) else list(range(count))
    found = np.array(ranks, np.float64)
    judged = Judgments(
        query_ids=tuple(map(str, range(count))),
        offsets=np.arange(count + 1),
        ranks=np.where(found > 0, found, np.inf),
        gains=np.ones(count),
        ranked=np.full(count, result.settings.candidates),
    )
    return judged, groups


def _listed(ranks: NDArray[np.float64]) -> list[int]:
    return np.where(np.isfinite(ranks), ranks, 0).astype(int).tolist()  # type: ignore[no-any-return]
