"""`mmsearch bench`: how good and how fast the engine is."""

import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
import typer
from typer.core import TyperCommand

from api.bench_gpu import gpu
from api.bench_index import index
from api.bench_relevance import relevance
from api.bench_service import service
from api.bench_vectors import vectors
from api.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    LanguageOption,
    RerankOption,
    SplitOption,
    WorkersOption,
    complain,
    print_json,
    require_paths,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.results import QualityRecord
    from benchmarks.retrieval_quality import Setup
    from retrieval.encoders.base import Encoder
    from retrieval.fusion.base import Reranker

_THIS_PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]
_LEAST_MEGAPIXELS, _MOST_MEGAPIXELS = 0.001, 100.0

bench = typer.Typer(help="Measure how good and how fast the engine is.", no_args_is_help=True)


DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="FORMAT:PATH",
        help="jsonl, karpathy, coco, flickr30k-csv, image-folder, csv, parquet or beir.",
    ),
]
EncoderOption = Annotated[
    str, typer.Option("--encoder", metavar="NAME", help="As for `mmsearch index`.")
]
NprobeOption = Annotated[
    int, typer.Option("--nprobe", min=1, help="Inverted lists that a search visits.")
]
OverfetchOption = Annotated[
    int, typer.Option("--overfetch", min=1, help="Candidates to refine, in lengths of the list.")
]
DepthOption = Annotated[
    int | None,
    typer.Option("--depth", min=1, help="Length of the ranked lists. (default: all items)"),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N images and their texts.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Vectors kept between runs. (default: yours)"),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of training samples and resampling.")]


bench.command()(vectors)
bench.command()(relevance)
bench.command()(service)
bench.command()(index)
bench.command()(gpu)


@bench.command()
def throughput(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photos.")],
    encoder: EncoderOption = "starter",
    megapixels: Annotated[
        str | None,
        typer.Option(
            "--megapixels",
            metavar="LIST",
            help="Sizes to make the photos before, with commas, such as 0.05,2,12. "
            "(default: as they are)",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Photos at most.")] = 1000,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Measurements of each, in turn.")
    ] = 3,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Images a second: decoding, encoding and committing alone, and whole runs, in turn."""
    from api import console
    from benchmarks.throughput import STAGES, measure_throughput

    require_paths([photos])
    results = [
        measure_throughput(
            photos,
            _load_encoder(encoder, device),
            megapixels=size,
            limit=limit,
            rounds=rounds,
            batch_size=batch_size,
            workers=workers,
            on_stage=lambda number, stage, rate: console.err.print(
                f"round {number}: {stage} {rate:.1f} images/s"
            ),
        )
        for size in (_megapixels(megapixels) if megapixels else [None])
    ]
    if as_json:
        print_json({"encoder": encoder, "sizes": [asdict(result) for result in results]})
        return
    for result in results:
        size = "as they are" if result.megapixels is None else f"{result.megapixels:g} megapixels"
        lines = [
            f"{result.images:,} photos, {size}, {result.file_bytes / 1e6:.2f} MB each; "
            f"{rounds} rounds, medians, {result.workers} reading processes:",
            *(f"{stage:<12} {result.stages[stage].rate:10.1f} images/s" for stage in STAGES),
            f"ratio        {result.ratio:10.1%} of the slower of decode and encode",
            f"cores' bound {result.cores_bound:10.1f} images/s, were no core ever idle",
            f"peak memory  {result.peak_memory_bytes / 1e9:10.2f} GB (this process)",
        ]
        console.out.print("\n".join(lines), markup=False, highlight=False)


@bench.command()
def memory(
    images: Annotated[
        str, typer.Option("--images", metavar="LIST", help="Numbers of images, with commas.")
    ] = "5000,50000",
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="As for `mmsearch index`. (default: a tiny model, fast and of random weights)",
            show_default=False,
        ),
    ] = None,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Peak memory of indexing few and many generated images, each in a process of its own."""
    from api import console
    from benchmarks.memory import measure_memory

    counts = _whole_numbers(images, "--images")
    if not counts:
        raise UsageError("--images takes at least one number of images.")
    results = measure_memory(
        counts,
        encoder,
        device=device,
        batch_size=batch_size,
        on_run=lambda run: console.err.print(f"{run.images:,} images: {run.seconds:.0f} s"),
    )
    if as_json:
        print_json({"encoder": encoder, "runs": [asdict(result) for result in results]})
        return
    lines = ["    images  run, s  loaded, MB  peak, MB  with readers, MB  second run, s (MB)"]
    for one in results:
        readers = "?" if one.all_peak_bytes is None else f"{one.all_peak_bytes / 1e6:.0f}"
        lines.append(
            f"{one.images:>10,} {one.seconds:>7.1f} {one.ready_bytes / 1e6:>11.0f} "
            f"{one.process_peak_bytes / 1e6:>9.0f} {readers:>17} {one.second_run_s:>14.1f} "
            f"({one.second_run_peak_bytes / 1e6:.0f})"
        )
    if len(results) > 1:
        ratio = results[-1].process_peak_bytes / results[0].process_peak_bytes
        lines.append(f"last peak / first: {ratio:.2f}")
    console.out.print("\n".join(lines), markup=False, highlight=False)


@bench.command()
def indexers(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photos.")],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="Of open_clip; rclip has its own, which is the default here too.",
        ),
    ] = "open_clip:ViT-B-32-256/datacomp_s34b_b86k",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Photos at most.")] = 300,
    rclip: Annotated[
        Path | None,
        typer.Option("--rclip", metavar="FILE", help="Its program.", show_default=False),
    ] = None,
    rclip_models: Annotated[
        Path | None,
        typer.Option(
            "--rclip-models",
            metavar="DIR",
            help="Its data directory. (default: it downloads its models each time)",
            show_default=False,
        ),
    ] = None,
    clip_retrieval: Annotated[
        Path | None,
        typer.Option("--clip-retrieval", metavar="FILE", help="Its program.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Indexing beside rclip and clip-retrieval: speed, memory, a second run without changes."""
    from api import console
    from benchmarks import peers

    given = [path for path in (photos, rclip, rclip_models, clip_retrieval) if path is not None]
    require_paths(given)
    chosen = [peers.mmsearch(_THIS_PROGRAM, encoder)]
    if rclip:
        chosen.append(peers.rclip(rclip.absolute(), rclip_models))
    else:
        complain("rclip is left out: name its program with --rclip.")
    if clip_retrieval:
        chosen.append(peers.clip_retrieval(clip_retrieval.absolute(), encoder))
    else:
        complain("clip-retrieval is left out: name its program with --clip-retrieval.")
    results = peers.measure_indexers(
        photos,
        chosen,
        limit=limit,
        on_done=lambda one: console.err.print(f"{one.name}: {one.first_s:.0f} s"),
    )
    if as_json:
        rates = ("images_per_second", "images_per_second_started")
        programs = [
            {**asdict(one), **{name: getattr(one, name) for name in rates}} for one in results
        ]
        print_json({"encoder": encoder, "indexers": programs})
        return
    lines = [
        f"{results[0].images:,} photos, {encoder}:",
        "program         images/s  once started  start, s  all, s  second run, s  peak, MB",
    ]
    for one in results:
        rate = one.images_per_second_started
        peak = one.peak_memory_bytes
        lines.append(
            f"{one.name:<14} {one.images_per_second:>9.1f} "
            f"{'?' if rate is None else f'{rate:.1f}':>13} {one.start_s:>9.1f} {one.first_s:>7.1f} "
            f"{one.second_s:>14.1f} {'?' if peak is None else f'{peak / 1e6:.0f}':>9}"
        )
    console.out.print("\n".join(lines), markup=False, highlight=False)


@bench.command()
def reranking(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photos.")],
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Photos to rerank for a text.")
    ] = 50,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Measurements of each, in turn.")
    ] = 20,
    encoder: EncoderOption = "starter",
    rerank: RerankOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Milliseconds to encode a query's text, and to rerank its candidates, in turn."""
    from api import console
    from benchmarks.reranking import measure_reranking

    require_paths([photos])
    reranker = _load_reranker(rerank, encoder, device)
    if reranker is None:
        raise UsageError(f"There is no reranker to measure: {rerank!r} for {encoder} is none.")
    result = measure_reranking(
        photos, _load_encoder(encoder, device), reranker, candidates=candidates, rounds=rounds
    )
    if as_json:
        medians = {
            "median_encode_ms": result.median_encode_ms,
            "median_rerank_ms": result.median_rerank_ms,
        }
        print_json({"encoder": encoder, **vars(result), **medians})
        return
    console.out.print(
        f"{result.candidates:,} candidates, {rounds} rounds, medians, {result.reranker}:\n"
        f"encode the query  {result.median_encode_ms:8.1f} ms\n"
        f"rerank            {result.median_rerank_ms:8.1f} ms\n"
        f"ratio             {result.ratio:8.2f}\n"
        f"image tokens      {result.image_tokens_per_second:8.1f} images/s (once an image)",
        markup=False,
    )


@bench.command()
def explanations(
    dataset: DatasetOption,
    split: SplitOption = None,
    language: LanguageOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Photos at most.")] = 200,
    share: Annotated[
        float, typer.Option("--share", min=0.01, max=0.99, help="Of the picture to paint over.")
    ] = 0.2,
    encoder: EncoderOption = "starter",
    rerank: RerankOption = "auto",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Whether painting over what the words looked at lowers the match more than chance does."""
    from api import console
    from benchmarks.datasets import load_dataset
    from benchmarks.explanations import measure_deletion

    photos = load_dataset(dataset, split=split, language=language)
    reranker = _load_reranker(rerank, encoder, device)
    if reranker is None:
        raise UsageError(f"There is no reranker for {encoder!r}: nothing can be explained.")
    with console.stage_progress() as progress:
        result = measure_deletion(
            photos,
            _load_encoder(encoder, device),
            reranker,
            limit=limit,
            share=share,
            seed=seed,
            on_progress=progress,
        )
    means = {
        name: float(getattr(result, name).mean())
        for name in ("attended", "random", "least_attended")
    }
    if as_json:
        print_json(
            {
                "photos": len(result.attended),
                "share": share,
                "reranker": reranker.name,
                **means,
                "difference": result.difference,
                "interval": [result.low, result.high],
                "wins": result.wins,
            }
        )
        return
    console.out.print(
        f"{len(result.attended):,} photos, {share:.0%} of each painted over; the match falls by\n"
        f"most attended   {means['attended']:6.2f}\n"
        f"at random       {means['random']:6.2f}\n"
        f"least attended  {means['least_attended']:6.2f}\n"
        f"most attended minus random: {result.difference:.2f} "
        f"({result.low:.2f} to {result.high:.2f}, 95%); more in {result.wins:.0%} of the photos",
        markup=False,
        highlight=False,
    )


class _OnceJsonToFile(TyperCommand):
    """Takes `--json OUT`, as it was spelled once, for `--json-file OUT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command line."""
        for place, (word, after) in enumerate(zip(args, [*args[1:], "-"], strict=True)):
            if word.startswith("--json=") or (word == "--json" and not after.startswith("-")):
                args[place] = word.replace("--json", "--json-file", 1)
        return super().parse_args(ctx, args)


@bench.command(cls=_OnceJsonToFile)
def retrieval(
    dataset: DatasetOption,
    split: SplitOption = None,
    language: LanguageOption = None,
    encoder: EncoderOption = "starter",
    index: Annotated[
        str, typer.Option("--index", help="flat, auto or a FAISS factory string.")
    ] = "flat",
    nprobe: NprobeOption = 16,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Score candidates exactly.")
    ] = True,
    overfetch: OverfetchOption = 10,
    depth: DepthOption = None,
    rerank: RerankOption = "none",
    rerank_depth: Annotated[
        int | None,
        typer.Option("--rerank-depth", min=1, help="Items to rerank. (default: the reranker's)"),
    ] = None,
    directions: Annotated[
        str, typer.Option("--directions", help="Of t2i, i2t, i2i, t2t, with commas.")
    ] = "t2i,i2t",
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="With commas, such as hit_recall@1,map.")
    ] = None,
    limit: LimitOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json-file", metavar="OUT", help="Write the whole result.")
    ] = None,
    run_file: Annotated[
        Path | None, typer.Option("--run", metavar="OUT", help="Write the ranked lists (TREC).")
    ] = None,
    qrels_file: Annotated[
        Path | None, typer.Option("--qrels", metavar="OUT", help="Write what is relevant (TREC).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write a page and Markdown.")
    ] = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Recall, ranks and precision on a dataset, through the engine that searches use."""
    from api import console
    from benchmarks.metrics import parse_metric
    from benchmarks.report import markdown
    from benchmarks.results import DEFAULT_METRICS, record_body
    from benchmarks.retrieval_quality import Setup

    names = _split(metrics) if metrics else DEFAULT_METRICS
    for name in names:
        parse_metric(name)
    setup = Setup(
        index=index,
        nprobe=nprobe,
        refine=refine,
        overfetch=overfetch,
        depth=depth,
        directions=_split(directions),
        seed=seed,
        rerank=rerank,
        rerank_depth=rerank_depth,
    )
    measured = _Measurement(dataset, split, language, limit, encoder, device, cache_folder)
    record = measured.run(
        setup, names, run_file=run_file, qrels_file=qrels_file, json_file=json_file, report=report
    )
    if as_json:
        print_json(record_body(record))
    else:
        console.out.print(markdown(record), markup=False, end="")


@bench.command()
def compare(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT...", help="Files of `bench retrieval --json-file`."),
    ],
    metrics: Annotated[
        str, typer.Option("--metrics", help="With commas.")
    ] = "hit_recall@1,hit_recall@5,hit_recall@10,map",
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="OUT", help="Write the table.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Set results beside the first one: differences, intervals, significance."""
    from api import console
    from benchmarks.comparison import compare_records, comparison_markdown
    from benchmarks.results import read_record

    rows = compare_records([read_record(file) for file in results], _split(metrics), seed=seed)
    table = comparison_markdown(rows)
    if markdown_file:
        markdown_file.write_text(table, encoding="utf-8")
    if as_json:
        print_json({"rows": [vars(row) for row in rows]})
    else:
        console.out.print(table, markup=False, end="")


@bench.command()
def ablation(
    dataset: DatasetOption,
    split: SplitOption = None,
    languages: Annotated[
        str | None, typer.Option("--languages", help="With commas. (default: the dataset's own)")
    ] = None,
    encoder: EncoderOption = "starter",
    factory: Annotated[
        str, typer.Option("--factory", help="The FAISS index to set against exact search.")
    ] = "IVF32,PQ64",
    nprobe: NprobeOption = 16,
    overfetch: OverfetchOption = 10,
    depth: DepthOption = 10,
    metrics: Annotated[
        str, typer.Option("--metrics", help="With commas.")
    ] = "hit_recall@1,hit_recall@5,hit_recall@10",
    rerank: RerankOption = "auto",
    rerank_depths: Annotated[
        str, typer.Option("--rerank-depths", help="Items to rerank, with commas.")
    ] = "10,30,100",
    limit: LimitOption = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="OUT", help="Write the table.")
    ] = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Exact search, a quantised index, the same refined, and reranking, in one table."""
    from api import console
    from benchmarks.comparison import compare_records, comparison_markdown
    from benchmarks.retrieval_quality import FLAT, Setup

    base = Setup(nprobe=nprobe, overfetch=overfetch, depth=depth, seed=seed)
    setups = [
        replace(base, index=FLAT),
        replace(base, index=factory, refine=False),
        replace(base, index=factory),
    ]
    depths = _whole_numbers(rerank_depths, "--rerank-depths")
    if _load_reranker(rerank, encoder, device) is not None:
        setups += [replace(base, rerank=rerank, rerank_depth=number) for number in depths]
    records = []
    for language in _split(languages) if languages else (None,):
        measured = _Measurement(dataset, split, language, limit, encoder, device, cache_folder)
        records += [measured.run(setup, _split(metrics)) for setup in setups]
    rows = compare_records(records, _split(metrics), seed=seed)
    table = comparison_markdown(rows)
    if markdown_file:
        markdown_file.write_text(table, encoding="utf-8")
    if as_json:
        print_json({"rows": [vars(row) for row in rows]})
    else:
        console.out.print(table, markup=False, end="")


def _whole_numbers(numbers: str, option: str) -> list[int]:
    try:
        found = [int(number) for number in _split(numbers)]
    except ValueError:
        found = [0]
    if min(found, default=1) < 1:
        raise UsageError(f"{option} takes numbers from 1, with commas, not {numbers!r}.")
    return found


def _megapixels(sizes: str) -> list[float]:
    try:
        found = [float(size) for size in _split(sizes)]
    except ValueError:
        found = []
    if not found or not all(_LEAST_MEGAPIXELS <= size <= _MOST_MEGAPIXELS for size in found):
        raise UsageError(
            f"--megapixels takes numbers from {_LEAST_MEGAPIXELS:g} to {_MOST_MEGAPIXELS:g}, with "
            f"commas, not {sizes!r}."
        )
    return found


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


class _Measurement:
    """A dataset and an encoder, loaded once, measured in any setups."""

    def __init__(
        self,
        dataset: str,
        split: str | None,
        language: str | None,
        limit: int | None,
        encoder: str,
        device: str,
        cache_folder: Path | None,
    ) -> None:
        from benchmarks.datasets import load_dataset
        from benchmarks.embedding_cache import EmbeddingCache

        self._dataset = load_dataset(dataset, split=split, language=language)
        if limit is not None:
            self._dataset = self._dataset.first_images(limit)
        self._encoder_name, self._device = encoder, device
        self._encoder = _load_encoder(encoder, device)
        default = Path(platformdirs.user_cache_dir("mmsearch", appauthor=False)) / "benchmarks"
        self._cache = EmbeddingCache(cache_folder or default)

    def run(
        self,
        setup: "Setup",
        metrics: tuple[str, ...],
        *,
        run_file: Path | None = None,
        qrels_file: Path | None = None,
        json_file: Path | None = None,
        report: Path | None = None,
    ) -> "QualityRecord":
        """Measure, and write what was asked for."""
        from api import console
        from benchmarks.report import FOUND_SHOWN, write_report
        from benchmarks.results import record_of, write_record
        from benchmarks.retrieval_quality import RankedList, measure_quality
        from benchmarks.trec import write_qrels, write_run

        ranked: dict[str, dict[str, RankedList]] = {d: {} for d in setup.directions}
        keep = None if run_file else FOUND_SHOWN

        def collect(direction: str, one: RankedList) -> None:
            ranked[direction][one.query_id] = RankedList(
                one.query_id, one.item_ids[:keep], one.scores[:keep]
            )

        reranker = _load_reranker(setup.rerank, self._encoder_name, self._device)
        with console.stage_progress() as progress:
            result = measure_quality(
                self._dataset,
                self._encoder,
                setup,
                self._cache,
                reranker=reranker,
                on_ranked=collect,
                on_progress=progress,
            )
        record = record_of(result, metrics)
        for direction in setup.directions:
            if run_file:
                write_run(
                    _file_of(run_file, direction, setup),
                    (
                        (one.query_id, dict(zip(one.item_ids, one.scores, strict=True)))
                        for one in ranked[direction].values()
                    ),
                )
            if qrels_file:
                write_qrels(
                    _file_of(qrels_file, direction, setup), result.measured.qrels(direction)
                )
        if json_file:
            write_record(record, json_file)
        if report:
            page = write_report(report, record, result.measured, ranked)
            console.err.print(f"Report: {page}", markup=False)
        return record


@cache
def _load_encoder(name: str, device: str) -> "Encoder":
    from retrieval.encoders.registry import choose_encoder, load_encoder

    return load_encoder(choose_encoder(name).name, device)


@cache
def _load_reranker(name: str, encoder: str, device: str) -> "Reranker | None":
    from retrieval.fusion.registry import AUTO, load_reranker

    reranker = load_reranker(name, _load_encoder(encoder, device), device)
    if reranker is None and name == AUTO:
        complain(f"There is no reranker for {encoder}: nothing is reranked.")
    return reranker


def _file_of(file: Path, direction: str, setup: "Setup") -> Path:
    """One file a direction: ids of different directions may be the same."""
    if len(setup.directions) == 1:
        return file
    return file.with_name(f"{file.stem}.{direction}{file.suffix}")
