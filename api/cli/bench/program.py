"""`mmsearch bench`: register the benchmarks."""

import typer

from api.cli.bench.catalog import catalog
from api.cli.bench.gpu import gpu
from api.cli.bench.index import index
from api.cli.bench.indexing import indexers, memory, throughput
from api.cli.bench.queries import queries
from api.cli.bench.relevance import relevance
from api.cli.bench.reranking import explanations, reranking
from api.cli.bench.retrieval import OnceJsonToFile, ablation, compare, retrieval
from api.cli.bench.service import service
from api.cli.bench.vectors import vectors

bench = typer.Typer(help="Measure how good and how fast the engine is.", no_args_is_help=True)
bench.command(cls=OnceJsonToFile)(retrieval)
for command in (
    compare,
    ablation,
    queries,
    relevance,
    reranking,
    explanations,
    vectors,
    index,
    gpu,
    throughput,
    memory,
    indexers,
    service,
    catalog,
):
    bench.command()(command)
