"""`mmsearch bench retrieval`, `compare` and `ablation`: retrieval quality."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from api.cli.bench.options import (
    DatasetOption,
    DepthOption,
    JsonFileOption,
    LimitOption,
    MarkdownOption,
    MetricsOption,
    NprobeOption,
    OverfetchOption,
    load_chosen_encoder,
    load_chosen_reranker,
    whole_numbers,
)
from api.cli.options import (
    CacheOption,
    CaptionsOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    RerankOption,
    SeedOption,
    SplitOption,
    cache_directory,
    complain,
    option,
    options_of,
    print_result,
    split_list,
)
from retrieval.errors import MMSearchError, UsageError

if TYPE_CHECKING:
    from benchmarks.datasets import RetrievalDataset
    from benchmarks.quality.comparison import Changes, ComparisonRow
    from benchmarks.quality.comparison_report import Contents
    from benchmarks.quality.results import QualityRecord
    from benchmarks.quality.retrieval import Setup


class OnceJsonToFile(TyperCommand):
    """Accepts the earlier spelling `--json OUT` of `--json-file OUT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command line."""
        for position, (word, after) in enumerate(zip(args, [*args[1:], "-"], strict=True)):
            if word.startswith("--json=") or (word == "--json" and not after.startswith("-")):
                args[position] = word.replace("--json", "--json-file", 1)
        return super().parse_args(ctx, args)


def retrieval(
    dataset: DatasetOption,
    split: SplitOption = None,
    languages: Annotated[
        list[str],
        option(
            "--language",
            "LIST",
            "Caption languages, comma-separated or repeated, or all: one table of them.",
        ),
    ] = [],  # noqa: B006
    captions: CaptionsOption = [],  # noqa: B006
    encoder: EncoderOption = "starter",
    index: Annotated[
        str, typer.Option("--index", help="Index: flat, auto or a FAISS factory string.")
    ] = "flat",
    nprobe: NprobeOption = 16,
    refine: Annotated[
        bool,
        typer.Option("--refine/--no-refine", help="Score candidates exactly from the embeddings."),
    ] = True,
    overfetch: OverfetchOption = 10,
    depth: DepthOption = None,
    rerank: RerankOption = "none",
    rerank_depth: Annotated[
        int | None,
        typer.Option(
            "--rerank-depth",
            min=1,
            help="Number of candidates to rerank. (default: the reranker's)",
        ),
    ] = None,
    directions: Annotated[
        str, typer.Option("--directions", help="Comma-separated directions: t2i, i2t, i2i, t2t.")
    ] = "t2i,i2t",
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Comma-separated metrics, such as hit_recall@1,map."),
    ] = None,
    limit: LimitOption = None,
    json_file: JsonFileOption = None,
    run_file: Annotated[
        Path | None, option("--run", "OUT", "Write the ranked lists (TREC run file).")
    ] = None,
    qrels_file: Annotated[
        Path | None, option("--qrels", "OUT", "Write the relevance judgements (TREC qrels).")
    ] = None,
    report: Annotated[
        Path | None, option("--report", "DIR", "Write a report (HTML and Markdown).")
    ] = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure recall, ranks and precision on a dataset with the stages of the search engine."""
    given = locals()
    from benchmarks.metrics import parse_metric
    from benchmarks.quality.report import LANGUAGES_METRICS, languages_markdown, markdown
    from benchmarks.quality.results import DEFAULT_METRICS, records_body, write_records
    from benchmarks.quality.retrieval import Setup

    names = split_list(metrics) if metrics else DEFAULT_METRICS
    for name in names:
        parse_metric(name)
    setup = Setup(**options_of(Setup, given) | {"directions": split_list(directions)})
    chosen = _chosen_languages(dataset, split, languages, captions)
    measured = _Measurement(dataset, split, chosen, limit, encoder, device, cache_folder, captions)
    records = measured.run(setup, names, run_file=run_file, qrels_file=qrels_file, report=report)
    if json_file:
        write_records(records, json_file)

    def text() -> str:
        if len(records) == 1:
            return markdown(records[0])
        return languages_markdown(records, names if metrics else LANGUAGES_METRICS)

    print_result(records_body(records), text, as_json=as_json)


def _chosen_languages(
    dataset: str, split: str | None, languages: "Sequence[str]", captions: "Sequence[Path]"
) -> tuple[str | None, ...]:
    from benchmarks.datasets import languages_of

    named = tuple(dict.fromkeys(name for names in languages for name in split_list(names)))
    if "all" in named:
        return languages_of(dataset, split, captions)
    return named or (None,)


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="Files of `bench retrieval --json-file` or of `bench queries --json-file`.",
        ),
    ],
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Comma-separated metrics, such as hit_recall@1,map."),
    ] = None,
    rank: Annotated[
        int,
        typer.Option("--rank", min=1, help="Rank down to which a right item must be found."),
    ] = 10,
    report: Annotated[
        Path | None,
        option("--report", "DIR", "Write a report with pictures of the failures mended and new."),
    ] = None,
    failures: Annotated[
        int,
        typer.Option(
            "--failures", min=0, max=200, help="Maximum number of failures of each list to show."
        ),
    ] = 24,
    markdown_file: MarkdownOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare results with the first one: differences, intervals, failures mended and new."""
    from benchmarks.quality.comparison import comparison_markdown
    from benchmarks.quality.comparison_report import changes_text, write_comparison_report
    from benchmarks.quality.queries_comparison import is_queries_result

    of_queries = {is_queries_result(file) for file in results}
    if len(of_queries) > 1:
        raise UsageError("Compare results of `bench retrieval`, or of `bench queries`, not both.")
    names = split_list(metrics) if metrics else ()
    compared = _compared_queries if of_queries == {True} else _compared_records
    rows, changes = compared(results, names, rank, seed, bool(report))
    text = comparison_markdown(rows) + changes_text(changes)
    if markdown_file:
        markdown_file.write_text(text, encoding="utf-8")
    body: dict[str, Any] = {
        "rows": [vars(row) for row in rows],
        "changes": [asdict(each) for each, _ in changes],
    }
    if report:
        page = write_comparison_report(report, rows, changes, count=failures)
        body["report"] = str(page)
    print_result(body, lambda: text, as_json=as_json)


_RECORD_METRICS = ("hit_recall@1", "hit_recall@5", "hit_recall@10", "map")


def _compared_records(
    files: "Sequence[Path]", metrics: tuple[str, ...], rank: int, seed: int, pictures: bool
) -> "tuple[list[ComparisonRow], list[tuple[Changes, Contents]]]":
    """Compare results of `bench retrieval`; without pictures, their dataset may be gone."""
    from benchmarks.quality.comparison import compare_records, distinct_labels, find_changes
    from benchmarks.quality.comparison_report import NO_CONTENTS, contents_of_dataset
    from benchmarks.quality.results import read_records

    read = [read_records(file) for file in files]
    if all(len(records) == 1 for records in read):
        groups = [[records[0] for records in read]]
    else:
        groups = _by_language(read)
    rows, changes = [], []
    for records in groups:
        labels = distinct_labels([record.label for record in records])
        rows += compare_records(records, metrics or _RECORD_METRICS, labels, seed=seed)
        found = find_changes(records, labels, rank=rank)
        try:
            known = contents_of_dataset(records[0])
        except MMSearchError:
            if pictures:
                raise
            known = {}
        changes += [(each, known.get(each.direction, NO_CONTENTS)) for each in found]
    return rows, changes


def _compared_queries(
    files: "Sequence[Path]", metrics: tuple[str, ...], rank: int, seed: int, _pictures: bool
) -> "tuple[list[ComparisonRow], list[tuple[Changes, Contents]]]":
    """Compare results of `bench queries`."""
    from benchmarks.quality.comparison import distinct_labels
    from benchmarks.quality.comparison_report import contents_of_queries
    from benchmarks.quality.queries_comparison import (
        compare_queries,
        find_query_changes,
        paired_runs,
        read_queries_records,
    )

    if len(files) < 2:
        raise UsageError("A comparison needs at least two results.")
    rows, changes = [], []
    for runs in paired_runs([read_queries_records(file) for file in files]):
        labels = distinct_labels([run.label for run in runs])
        group = [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]
        rows += compare_queries(group, *([metrics] if metrics else []), seed=seed)
        contents = contents_of_queries(group)
        changes += [
            (each, contents[each.direction]) for each in find_query_changes(group, rank=rank)
        ]
    return rows, changes


def _by_language(read: "Sequence[Sequence[QualityRecord]]") -> "list[list[QualityRecord]]":
    """Group results by the languages of the first file that another file has, too."""
    by_language = [{record.dataset["language"]: record for record in records} for records in read]
    groups = [
        [records[language] for records in by_language if language in records]
        for language in by_language[0]
    ]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        raise UsageError("The files have no language in common with the first one.")
    return groups


def ablation(
    dataset: DatasetOption,
    split: SplitOption = None,
    languages: Annotated[
        str | None,
        typer.Option(
            "--languages",
            help="Comma-separated caption languages. (default: the dataset's only one)",
        ),
    ] = None,
    encoder: EncoderOption = "starter",
    factory: Annotated[
        str, typer.Option("--factory", help="FAISS index to compare with exact search.")
    ] = "IVF32,PQ64",
    nprobe: NprobeOption = 16,
    overfetch: OverfetchOption = 10,
    depth: DepthOption = 10,
    metrics: MetricsOption = "hit_recall@1,hit_recall@5,hit_recall@10",
    rerank: RerankOption = "auto",
    rerank_depths: Annotated[
        str,
        typer.Option("--rerank-depths", help="Comma-separated numbers of candidates to rerank."),
    ] = "10,30,100",
    limit: LimitOption = None,
    markdown_file: MarkdownOption = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare exact search, a quantised index, the same refined, and reranking."""
    from benchmarks.quality.retrieval import FLAT, Setup

    base = Setup(nprobe=nprobe, overfetch=overfetch, depth=depth, seed=seed)
    setups = [
        replace(base, index=FLAT),
        replace(base, index=factory, refine=False),
        replace(base, index=factory),
    ]
    depths = whole_numbers(rerank_depths, "--rerank-depths")
    if load_chosen_reranker(rerank, encoder, device) is not None:
        setups += [replace(base, rerank=rerank, rerank_depth=number) for number in depths]
    records = []
    for language in split_list(languages) if languages else (None,):
        measured = _Measurement(dataset, split, (language,), limit, encoder, device, cache_folder)
        records += [measured.run(setup, split_list(metrics))[0] for setup in setups]
    _print_comparison([records], split_list(metrics), seed, markdown_file, as_json)


def _print_comparison(
    groups: "Sequence[Sequence[QualityRecord]]",
    metrics: tuple[str, ...],
    seed: int,
    markdown_file: Path | None,
    as_json: bool,
) -> None:
    from benchmarks.quality.comparison import compare_records, comparison_markdown

    rows = [row for records in groups for row in compare_records(records, metrics, seed=seed)]
    if markdown_file:
        markdown_file.write_text(comparison_markdown(rows), encoding="utf-8")
    body = {"rows": [vars(row) for row in rows]}
    print_result(body, lambda: comparison_markdown(rows), as_json=as_json)


class _Measurement:
    """A dataset in one or several languages and an encoder, measured in several setups."""

    def __init__(
        self,
        dataset: str,
        split: str | None,
        languages: "Sequence[str | None]",
        limit: int | None,
        encoder: str,
        device: str,
        cache_folder: Path | None,
        captions: "Sequence[Path]" = (),
    ) -> None:
        from benchmarks.datasets import load_dataset
        from benchmarks.quality.embedding_cache import EmbeddingCache

        self._datasets = [
            load_dataset(dataset, split=split, language=language, extra=captions)
            for language in languages
        ]
        if limit is not None:
            self._datasets = [each.first_images(limit) for each in self._datasets]
        self._encoder_name, self._device = encoder, device
        self._encoder = load_chosen_encoder(encoder, device)
        self._cache = EmbeddingCache(cache_directory(cache_folder, "benchmarks"))

    def run(
        self,
        setup: "Setup",
        metrics: tuple[str, ...],
        *,
        run_file: Path | None = None,
        qrels_file: Path | None = None,
        report: Path | None = None,
    ) -> "list[QualityRecord]":
        """Measure one setup in each language, and write the requested files.

        The files of several languages have the language in their names, or in their directory's.
        """
        if len(self._datasets) == 1:
            return [self._run(self._datasets[0], setup, metrics, run_file, qrels_file, report)]
        records = []
        for dataset in self._datasets:
            language = str(dataset.language)
            run, qrels = (
                file and file.with_name(f"{file.stem}.{language}{file.suffix}")
                for file in (run_file, qrels_file)
            )
            folder = report and report / language
            records.append(self._run(dataset, setup, metrics, run, qrels, folder))
        return records

    def _run(
        self,
        dataset: "RetrievalDataset",
        setup: "Setup",
        metrics: tuple[str, ...],
        run_file: Path | None,
        qrels_file: Path | None,
        report: Path | None,
    ) -> "QualityRecord":
        from api.cli import console
        from benchmarks.quality.report import FOUND_SHOWN, write_report
        from benchmarks.quality.results import record_of
        from benchmarks.quality.retrieval import RankedList, measure_quality
        from benchmarks.quality.trec import write_qrels, write_run

        ranked: dict[str, dict[str, RankedList]] = {d: {} for d in setup.directions}
        keep = None if run_file else FOUND_SHOWN

        def collect(direction: str, result: RankedList) -> None:
            ranked[direction][result.query_id] = RankedList(
                result.query_id, result.item_ids[:keep], result.scores[:keep]
            )

        reranker = load_chosen_reranker(setup.rerank, self._encoder_name, self._device)
        with console.stage_progress() as progress:
            result = measure_quality(
                dataset,
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
                        (hits.query_id, dict(zip(hits.item_ids, hits.scores, strict=True)))
                        for hits in ranked[direction].values()
                    ),
                )
            if qrels_file:
                write_qrels(
                    _file_of(qrels_file, direction, setup), result.measured.qrels(direction)
                )
        if report:
            page = write_report(report, record, result.measured, ranked)
            complain(f"Report: {page}")
        return record


def _file_of(file: Path, direction: str, setup: "Setup") -> Path:
    """Name one file per direction, since ids of different directions may be equal."""
    if len(setup.directions) == 1:
        return file
    return file.with_name(f"{file.stem}.{direction}{file.suffix}")
