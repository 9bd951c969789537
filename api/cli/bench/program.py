"""`mmsearch bench`: register the benchmarks."""

from api.cli.lazy_group import Entry, lazy_group

BENCHMARKS = {
    "retrieval": Entry(
        "api.cli.bench.retrieval:retrieval",
        "Measure recall, ranks and precision on a dataset with the stages of the search engine.",
        "OnceJsonToFile",
    ),
    "compare": Entry(
        "api.cli.bench.retrieval:compare",
        "Compare results with the first one: differences, intervals, failures mended and new.",
    ),
    "ablation": Entry(
        "api.cli.bench.retrieval:ablation",
        "Compare exact search, a quantised index, the same refined, and reranking.",
    ),
    "queries": Entry(
        "api.cli.bench.queries:queries",
        "Measure words, phrases and captions as queries: ranking, what is shown, and relevance.",
    ),
    "moments": Entry(
        "api.cli.bench.moments:moments",
        "Measure how captions find moments of videos that are composed of the captioned photos.",
    ),
    "relevance": Entry(
        "api.cli.bench.relevance:relevance",
        "Measure the calibration of relevance: reliability curve, and what thresholds keep.",
    ),
    "reranking": Entry(
        "api.cli.bench.reranking:reranking",
        "Measure the time to encode a query and to rerank its candidates.",
    ),
    "explanations": Entry(
        "api.cli.bench.reranking:explanations",
        "Test explanations: does painting over the most attended region lower the match?",
    ),
    "ocr": Entry(
        "api.cli.bench.ocr:ocr",
        "Measure characters right on rendered pages, seconds a photo, and photos skipped cheaply.",
    ),
    "captions": Entry(
        "api.cli.bench.captions:captions",
        "Measure captions by BLEU and CIDEr, and answers to questions by the accuracy of VQA.",
    ),
    "vectors": Entry(
        "api.cli.bench.vectors:vectors",
        "Compare vector engines: recall against queries per second, build time and memory.",
    ),
    "index": Entry(
        "api.cli.bench.index:index",
        "Measure the recall of the default index: filters, added and removed rows.",
    ),
    "gpu": Entry(
        "api.cli.bench.gpu:gpu",
        "Compare the same index on GPU and CPU: build time, recall and speed.",
    ),
    "table-index": Entry(
        "api.cli.bench.table_index:table_index",
        "Measure the index of a Lance table: build time, recall and speed, beside that of FAISS.",
    ),
    "throughput": Entry(
        "api.cli.bench.indexing:throughput",
        "Measure indexing speed: decoding, encoding and committing alone, and whole runs.",
    ),
    "memory": Entry(
        "api.cli.bench.indexing:memory",
        "Measure the peak memory of indexing few and many generated images.",
    ),
    "indexers": Entry(
        "api.cli.bench.indexing:indexers",
        "Compare indexing with rclip and clip-retrieval: speed, memory, a second run.",
    ),
    "service": Entry(
        "api.cli.bench.service:service",
        "Load-test the service: throughput, latency, errors and memory, with and without batching.",
    ),
    "page": Entry(
        "api.cli.bench.page:page",
        "Measure the page in Chromium: key press to first picture, frames while scrolling.",
    ),
    "startup": Entry(
        "api.cli.bench.startup:startup",
        "Measure `--help`, the first search of a process, and a search through a service.",
    ),
    "catalog": Entry(
        "api.cli.bench.catalog:catalog",
        "Measure what is first asked of a large library, made for it of files that do not exist.",
    ),
}

bench = lazy_group(
    BENCHMARKS, help="Measure how good and how fast the engine is.", no_args_is_help=True
)
