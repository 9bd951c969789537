"""`mmsearch bench`: how good and how fast the engine is."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import platformdirs
import typer

from api.options import BatchSizeOption, DeviceOption, JsonOption, print_json, require_paths
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.results import QualityRecord
    from benchmarks.retrieval_quality import Setup
    from retrieval.encoders.base import Encoder

bench = typer.Typer(help="Measure how good and how fast the engine is.", no_args_is_help=True)


DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="FORMAT:PATH",
        help="jsonl, karpathy, coco, flickr30k-csv, image-folder, csv, parquet or beir.",
    ),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="[default: the dataset's only one, or test]")
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
    typer.Option("--depth", min=1, help="Length of the ranked lists. [default: all items]"),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N images and their texts.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Vectors kept between runs. [default: yours]"),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of training samples and resampling.")]


@bench.command()
def throughput(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photos.")],
    encoder: EncoderOption = "starter",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Photos at most.")] = 1000,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Measurements of each, in turn.")
    ] = 3,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Images a second: the encoder alone, and the whole indexing run, in turn."""
    from api import console
    from benchmarks.throughput import measure_throughput

    require_paths([photos])
    result = measure_throughput(
        photos,
        _load_encoder(encoder, device),
        limit=limit,
        rounds=rounds,
        batch_size=batch_size,
        on_round=lambda number, alone, whole: console.err.print(
            f"round {number}: encoder alone {alone:.1f}, whole run {whole:.1f} images/s"
        ),
    )
    if as_json:
        print_json({"encoder": encoder, **vars(result)})
        return
    console.out.print(
        f"{result.images:,} photos, {rounds} rounds, medians:\n"
        f"encoder alone  {result.median_encoder_alone:8.1f} images/s\n"
        f"whole run      {result.median_whole_run:8.1f} images/s\n"
        f"ratio          {result.ratio:8.1%}\n"
        f"peak memory    {result.peak_memory_bytes / 1e9:8.2f} GB (this process)"
    )


@bench.command()
def retrieval(
    dataset: DatasetOption,
    split: SplitOption = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Of the texts, where there are several.")
    ] = None,
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
    rerank: Annotated[
        str, typer.Option("--rerank", metavar="NAME", help="none: there is no reranker yet.")
    ] = "none",
    directions: Annotated[
        str, typer.Option("--directions", help="Of t2i, i2t, i2i, t2t, with commas.")
    ] = "t2i,i2t",
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="With commas, such as hit_recall@1,map.")
    ] = None,
    limit: LimitOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the whole result.")
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
) -> None:
    """Recall, ranks and precision on a dataset, through the engine that searches use."""
    from api import console
    from benchmarks.metrics import parse_metric
    from benchmarks.report import markdown
    from benchmarks.results import DEFAULT_METRICS
    from benchmarks.retrieval_quality import Setup

    if rerank != "none":
        raise UsageError(f"There is no reranker {rerank!r}. Use --rerank none.")
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
    )
    measured = _Measurement(dataset, split, language, limit, encoder, device, cache_folder)
    record = measured.run(
        setup, names, run_file=run_file, qrels_file=qrels_file, json_file=json_file, report=report
    )
    console.out.print(markdown(record), markup=False, end="")


@bench.command()
def compare(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT...", help="Files of `bench retrieval --json`.")
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
        str | None, typer.Option("--languages", help="With commas. [default: the dataset's own]")
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
    limit: LimitOption = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="OUT", help="Write the table.")
    ] = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Exact search, a quantised index, and the same refined, for each language, in one table."""
    from api import console
    from benchmarks.comparison import compare_records, comparison_markdown
    from benchmarks.retrieval_quality import FLAT, Setup

    setups = [
        Setup(
            index=name, nprobe=nprobe, refine=refined, overfetch=overfetch, depth=depth, seed=seed
        )
        for name, refined in ((FLAT, True), (factory, False), (factory, True))
    ]
    records = [
        _Measurement(dataset, split, language, limit, encoder, device, cache_folder).run(
            setup, _split(metrics)
        )
        for language in (_split(languages) if languages else (None,))
        for setup in setups
    ]
    rows = compare_records(records, _split(metrics), seed=seed)
    table = comparison_markdown(rows)
    if markdown_file:
        markdown_file.write_text(table, encoding="utf-8")
    if as_json:
        print_json({"rows": [vars(row) for row in rows]})
    else:
        console.out.print(table, markup=False, end="")


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

        with console.stage_progress() as progress:
            result = measure_quality(
                self._dataset,
                self._encoder,
                setup,
                self._cache,
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


def _file_of(file: Path, direction: str, setup: "Setup") -> Path:
    """One file a direction: ids of different directions may be the same."""
    if len(setup.directions) == 1:
        return file
    return file.with_name(f"{file.stem}.{direction}{file.suffix}")
