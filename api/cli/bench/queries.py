"""`mmsearch bench queries`: what users get for words, phrases and captions."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.bench.options import (
    DatasetOption,
    JsonFileOption,
    LimitOption,
    MarkdownOption,
    load_chosen_encoder,
)
from api.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguageOption,
    SeedOption,
    SpaceOption,
    SplitOption,
    cache_directory,
    complain,
    option,
    print_result,
    require_paths,
    split_list,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from retrieval.search.engine import Engine

_AUTO = "auto"


def queries(
    dataset: DatasetOption,
    split: SplitOption = None,
    language: LanguageOption = None,
    texts: Annotated[
        str,
        option(
            "--texts",
            "all|held-out",
            "held-out: only queries that `mmsearch train relevance` does not train on.",
        ),
    ] = "all",
    rerank: Annotated[
        str, option("--rerank", "LIST", "Comma-separated rerankers, as for `mmsearch search`.")
    ] = "none,auto",
    min_relevance: Annotated[
        str,
        option("--min-relevance", "auto|R", "Least relevance of what is shown; auto: as searches."),
    ] = _AUTO,
    least: Annotated[
        int, typer.Option("--least", min=1, help="Least number of right photos of a word.")
    ] = 10,
    most: Annotated[
        int, typer.Option("--most", min=1, help="Maximum number of queries of a kind.")
    ] = 100,
    captions: Annotated[
        int, typer.Option("--captions", min=0, help="Number of full captions to ask.")
    ] = 100,
    pairs: Annotated[
        int, typer.Option("--pairs", min=0, help="Maximum number of signed queries.")
    ] = 40,
    words: Annotated[
        Path | None,
        option("--words", "FILE", "Word lists (TOML) instead of the language's own."),
    ] = None,
    absent: Annotated[
        Path | None,
        option("--absent", "FILE", "Texts about things that no photo shows, one a line."),
    ] = None,
    library: Annotated[
        Path | None,
        option(
            "--library", "DIR", "Search this library. (default: one of the photos, in the cache)"
        ),
    ] = None,
    space: SpaceOption = None,
    encoder: EncoderOption = "starter",
    limit: LimitOption = None,
    json_file: JsonFileOption = None,
    markdown_file: MarkdownOption = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure words, phrases and captions as queries: ranking, what is shown, and relevance."""
    from api.cli import console
    from benchmarks.datasets import load_dataset
    from benchmarks.quality.graded_queries import Sizes, make_queries
    from benchmarks.quality.queries import build_library, measure_queries, queries_markdown
    from benchmarks.quality.query_words import absent_queries, read_words
    from benchmarks.quality.relevance import captioned
    from retrieval.library import open_library
    from retrieval.search.engine import Engine
    from retrieval.search.query import parse_min_relevance

    require_paths([path for path in (words, absent, library) if path])
    threshold = parse_min_relevance(min_relevance)
    if texts not in ("all", "held-out"):
        raise UsageError(f"--texts takes all or held-out, not {texts!r}.")
    sizes = Sizes(least=least, most=most, captions=captions, pairs=pairs)
    data = load_dataset(dataset, split=split, language=language)
    if limit is not None:
        data = data.first_images(limit)
    spoken = data.language or language or "en"
    known = read_words(spoken, words)
    nowhere = _lines_of(absent) if absent else absent_queries(spoken)
    photos = captioned(data)
    cache = cache_directory(cache_folder, "queries")
    with console.stage_progress() as progress:
        asked = make_queries(
            photos, known, nowhere, cache, sizes=sizes, seed=seed, on_progress=progress
        )
        if texts == "held-out":
            asked = asked.held_out()
        if library is None:
            loaded = load_chosen_encoder(encoder, device)
            searched = build_library(photos, loaded, cache, progress)
        else:
            searched = open_library(library)
        engine = Engine(searched, space_id=space, device=device)
        names = _rerankers(rerank, engine)
        result = measure_queries(
            engine, asked, names, min_relevance=threshold, on_progress=progress
        )
    body = {
        "dataset": dataset,
        "split": data.split,
        "language": spoken,
        "texts": texts,
        "encoder": engine.space.encoder,
        **asdict(result),
    }
    if json_file:
        json_file.write_text(json.dumps(body, ensure_ascii=False, indent=1), "utf-8")
    if markdown_file:
        markdown_file.write_text(queries_markdown(result), encoding="utf-8")
    print_result(body, lambda: queries_markdown(result), as_json=as_json)


def _lines_of(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _rerankers(names: str, engine: "Engine") -> list[str]:
    """List the rerankers that there are; those that are not become `none`, once."""
    from retrieval.rerankers.registry import AUTO, NONE

    chosen = []
    for name in split_list(names):
        is_there = engine.reranker(name) is not None
        if not is_there and name == AUTO:
            complain(f"There is no reranker for {engine.space.encoder}: results are not reranked.")
        chosen.append(name if is_there else NONE)
    if not chosen:
        raise UsageError("--rerank takes comma-separated rerankers, such as none,auto.")
    return list(dict.fromkeys(chosen))
