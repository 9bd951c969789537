"""`mmsearch build-index` and `mmsearch index-info`: build and show vector indices."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from api.cli.options import (
    ClusterOption,
    DeviceOption,
    JsonOption,
    LibraryOption,
    SpaceOption,
    complain,
    option,
    print_json,
)
from retrieval.errors import LibraryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrieval.encoders.base import Encoder, Space
    from retrieval.indices.build import BuildOptions
    from retrieval.indices.generations import Generation
    from retrieval.library import Library
    from retrieval.media import Modality


class IndexEngine(StrEnum):
    """Engines of the index of a library."""

    FAISS = "faiss"
    MILVUS = "milvus"
    PGVECTOR = "pgvector"


def index_info(
    library: LibraryOption = None, space: SpaceOption = None, as_json: JsonOption = False
) -> None:
    """Show the search index: its kind, why it was chosen, its settings and recall."""
    from api.cli import cluster as of_tables
    from retrieval.library import is_table, open_library
    from retrieval.media import Modality

    if library is not None and is_table(library):
        of_tables.tell_index(library, as_json=as_json)
        return
    opened = open_library(library)
    chosen = opened.space(space)
    facts = {modality.value: _facts(opened, chosen, modality) for modality in Modality}
    if as_json:
        print_json({"library": str(opened.path), "space": chosen.id, "indices": facts})
        return
    for name, of_modality in facts.items():
        if of_modality["rows"]:
            _print(name, of_modality)
    if not any(of_modality["rows"] for of_modality in facts.values()):
        complain("The library holds no vectors yet: mmsearch index PATH...")


def build_index(
    target_recall: Annotated[
        float | None,
        option(
            "--target-recall",
            "R",
            "Target recall at 10, 0 to 1. (default: as before, or 0.98)",
            min=0.01,
            max=1.0,
        ),
    ] = None,
    factory: Annotated[
        str | None,
        option(
            "--factory",
            "STRING",
            "What to build: a FAISS factory string, such as IVF4096,PQ64, or a kind of another "
            "engine. (default: by size)",
        ),
    ] = None,
    engine: Annotated[
        IndexEngine | None,
        option(
            "--engine",
            "NAME",
            "faiss; milvus or pgvector, whose server MMSEARCH_MILVUS or MMSEARCH_PGVECTOR names. "
            "(default: as before, or faiss)",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        option(
            "--kind",
            "IVF_PQ|IVF_RQ",
            "Kind of index of a library in a Lance table: product quantisation, or RaBitQ. "
            "(default: by size)",
        ),
    ] = None,
    partitions: Annotated[
        int | None,
        option(
            "--partitions",
            "N",
            "Number of inverted lists of a library in a Lance table. (default: by size)",
            min=1,
        ),
    ] = None,
    cluster: ClusterOption = None,
    library: LibraryOption = None,
    space: SpaceOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Rebuild the search index now. `mmsearch index` does this automatically when it is due."""
    from api.cli import cluster as of_tables
    from retrieval.encoders.deferred import encoder_of
    from retrieval.indices.build import BuildOptions
    from retrieval.library import is_table, open_library
    from retrieval.media import Modality

    is_of_table = library is not None and is_table(library)
    if is_of_table or kind or partitions or cluster:
        of_tables.build_index(
            library, kind, partitions, target_recall, cluster, factory, as_json=as_json
        )
        return
    opened = open_library(library)
    chosen = opened.space(space)
    options = BuildOptions(
        factory, target_recall, force=True, engine=engine.value if engine else None
    )
    modalities = [m for m in Modality if _facts(opened, chosen, m)["rows"]]
    if not modalities:
        raise UsageError(f"{opened.path} holds no vectors yet: mmsearch index PATH...")
    built = []
    for modality in modalities:
        generation = _build(
            opened,
            chosen,
            modality,
            lambda: encoder_of(opened, chosen, device),
            device,
            options=options,
            is_quiet=as_json,
        )
        if generation is not None:
            built.append(generation)
    if as_json:
        print_json(
            {"library": str(opened.path), "built": [generation.facts() for generation in built]}
        )
    elif not built:
        from api.cli import console
        from retrieval.indices.choice import EXACT_UP_TO_ROWS

        console.out.print(
            f"Nothing to build: up to {EXACT_UP_TO_ROWS:,} vectors are searched exactly. "
            "`--factory STRING` forces an index."
        )


def build_due_indices(
    library: "Library",
    encoder: "Encoder",
    *,
    device: str = "auto",
    is_quiet: bool,
    should_stop: "Callable[[], bool]" = lambda: False,
) -> "list[Generation]":
    """Build the indices that are due, with a progress bar; failures are only reported."""
    from retrieval.indices.maintenance import needs_rebuild

    built = []
    for modality in needs_rebuild(library, encoder.space):
        try:
            generation = _build(
                library,
                encoder.space,
                modality,
                lambda: encoder,
                device,
                is_quiet=is_quiet,
                should_stop=should_stop,
            )
        except LibraryError as error:
            complain(f"The index was not built: {error}")
            continue
        if generation is not None:
            built.append(generation)
    return built


def _build(
    library: "Library",
    space: "Space",
    modality: "Modality",
    encoder: "Callable[[], Encoder]",
    device: str,
    *,
    options: "BuildOptions | None" = None,
    is_quiet: bool,
    should_stop: "Callable[[], bool]" = lambda: False,
) -> "Generation | None":
    from api.cli import console
    from retrieval.indices.maintenance import build_index as build

    with console.stage_progress(quiet=is_quiet) as show:
        generation = build(
            library,
            modality,
            encoder,
            space,
            options=options,
            device=device,
            on_progress=show,
            should_stop=should_stop,
        )
    if generation is not None and not is_quiet:
        server = generation.details.get("server")
        console.out.print(
            f"Index of {generation.rows:,} {modality} vectors built: {generation.kind}, "
            f"{generation.size / 1e6:,.1f} MB{f' beside {server}' if server else ''}.",
            markup=False,
        )
    return generation


def _facts(library: "Library", space: "Space", modality: "Modality") -> dict[str, Any]:
    """Describe the index of one modality, if it has one."""
    from retrieval.indices.build import plan_build, reasons_for
    from retrieval.indices.generations import latest
    from retrieval.indices.maintenance import committed_rows

    rows = committed_rows(library, space, modality)
    problems: list[str] = []
    generation = latest(library.space_directory(space), modality, rows, problems.append)
    facts: dict[str, Any] = {
        "kind": generation.kind if generation else "exact",
        "rows": len(rows),
        "rows_covered": generation.rows if generation else 0,
        "rows_past": len(rows) - (generation.rows if generation else 0),
        "embeddings_bytes": rows.nbytes,
        "next": plan_build(len(rows), generation, lambda: 1.0).reason,
        "problems": problems,
        "index": None,
    }
    if generation:
        facts["index"] = generation.facts() | {"bytes_per_row": generation.size / generation.rows}
    facts["reasons"] = reasons_for(len(rows), generation)
    return facts


def _print(name: str, facts: dict[str, Any]) -> None:
    from api.cli import console

    lines = {"Index": f"{facts['kind']}, of {name} vectors"}
    lines["Rows"] = (
        f"{facts['rows']:,}: {facts['rows_covered']:,} in the index, {facts['rows_past']:,} added "
        f"since, searched exactly"
    )
    lines["Vectors"] = f"{facts['embeddings_bytes'] / 1e6:,.1f} MB, memory-mapped"
    if index := facts["index"]:
        training, tuning = index["training"], index["tuning"]
        engine = index.get("engine", "faiss")
        if engine == "faiss":
            lists = f"{index['lists']:,} lists, " if index["lists"] else ""
            lines["Codes"] = f"{lists}{index['code_bytes']} bytes per row"
            size = f"{index['size'] / 1e6:,.1f} MB"
            lines["Memory"] = f"{size} ({index['bytes_per_row']:.1f} bytes per row in total)"
            lines["Trained"] = f"on {training['sample']:,} of {training['of_rows']:,} rows"
        else:
            lines["Server"] = f"{engine} at {index['server']}, collection {index['collection']}"
        version = f"{'FAISS' if engine == 'faiss' else engine} {index['faiss']}".strip()
        lines["Built"] = f"{index['created']}, generation {index['number']}, {version}"
        for modality, settings in tuning["settings"].items():
            recall = settings["recall"]
            found = "not measured" if recall is None else f"recall@10 {recall:.3f}"
            lines[f"{modality.capitalize()} queries"] = (
                f"{settings['nprobe']:,} probes, {settings['overfetch']} candidates per hit: "
                f"{found} (target: {tuning['target_recall']:g})"
            )
    lines["Why"] = "\n".join(facts["reasons"])
    lines["Next"] = facts["next"]
    if facts["problems"]:
        lines["Problems"] = "\n".join(facts["problems"])
    width = max(map(len, lines)) + 2
    for title, text in lines.items():
        shown = text.replace("\n", "\n" + " " * width)
        console.out.print(f"{title:<{width}}{shown}", markup=False)
    console.out.print()
