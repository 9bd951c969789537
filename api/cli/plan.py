"""`mmsearch plan`: what a library of any size takes, on paper."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import JsonOption, option, options_of, parse_size, print_result, split_list
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.capacity.records import Plan

_MOST_ITEMS = 10**12


def plan(
    images: Annotated[
        str,
        option(
            "--images",
            "LIST",
            "Number of images, such as 1e9 or 250000; several, comma-separated, are compared.",
        ),
    ],
    texts: Annotated[
        str, option("--texts", "N", "Number of chunks of text, beside the images.")
    ] = "0",
    megapixels: Annotated[
        float,
        typer.Option("--megapixels", min=0.001, max=1000, help="Mean size of the images."),
    ] = 12.0,
    image_size: Annotated[
        str | None,
        option(
            "--image-size",
            "SIZE",
            "Mean size of the image files, such as 3.4MB. (default: as measured by megapixels)",
        ),
    ] = None,
    encoder: Annotated[
        str, option("--encoder", "NAME", "Encoder, such as starter or ViT-L-14.")
    ] = "starter",
    dimension: Annotated[
        int | None,
        typer.Option(
            "--dimension",
            min=1,
            max=4096,
            help="Dimension of the vectors. (default: the encoder's)",
        ),
    ] = None,
    hours: Annotated[
        float, typer.Option("--hours", min=0.01, max=100_000, help="Hours to embed in.")
    ] = 24.0,
    machines: Annotated[
        int | None,
        typer.Option(
            "--machines", min=1, help="Embed with this number of machines, instead of in --hours."
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=1, help="GPUs of --machines together. (default: one each)"),
    ] = None,
    thumbnails: Annotated[
        str,
        option("--thumbnails", "PIXELS|none", "Longer side of the thumbnails that are stored."),
    ] = "320",
    recall: Annotated[
        float,
        typer.Option("--recall", min=0.1, max=0.9999, help="Target recall@10 of text queries."),
    ] = 0.95,
    queries_per_second: Annotated[
        float,
        typer.Option("--queries-per-second", min=0.0, max=1e6, help="Queries to answer a second."),
    ] = 10.0,
    machine_cores: Annotated[
        int, typer.Option("--machine-cores", min=1, max=10_000, help="Cores of a machine.")
    ] = 32,
    machine_memory: Annotated[
        str, option("--machine-memory", "SIZE", "Memory of a machine, such as 256GB.")
    ] = "256GB",
    machine_disk: Annotated[
        str, option("--machine-disk", "SIZE", "Local disk (NVMe) of a machine, such as 8TB.")
    ] = "8TB",
    gpu_hour: Annotated[
        float, option("--price-gpu-hour", "PRICE", "Price of an hour of a GPU.", min=0.0)
    ] = 2.5,
    core_hour: Annotated[
        float,
        option("--price-core-hour", "PRICE", "Price of an hour of a core, with memory.", min=0.0),
    ] = 0.04,
    tb_month: Annotated[
        float,
        option("--price-tb-month", "PRICE", "Price of storing a terabyte for a month.", min=0.0),
    ] = 23.0,
    million_gets: Annotated[
        float,
        option("--price-million-gets", "PRICE", "Price of reading a million objects.", min=0.0),
    ] = 0.4,
    million_puts: Annotated[
        float,
        option("--price-million-puts", "PRICE", "Price of writing a million objects.", min=0.0),
    ] = 5.0,
    measured: Annotated[
        list[Path] | None,
        option(
            "--measured",
            "FILE",
            "JSON of `mmsearch bench throughput`, `bench vectors --growth` or `bench catalog` on "
            "your machine, in place of the bundled measurements. Repeatable.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print all rates and constants, each with its source."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Plan a library of any size: machines, hours, bytes, money, and where one machine ends.

    Nothing is measured or started: the rates come from benchmarks of this program, on two CPU cores
    or on your machine, and from published figures.
    """
    from benchmarks.capacity.measurements import read_measurements
    from benchmarks.capacity.plan import make_plan
    from benchmarks.capacity.records import Machine, Prices, Wanted
    from benchmarks.capacity.tables import explanation, plan_text, plans_markdown

    given = locals()
    counts = [_count(number, "--images") for number in split_list(images)]
    if not counts:
        raise UsageError("--images takes a number of images, such as 1e9.")
    rates = read_measurements(measured or [])
    machine = Machine(machine_cores, _bytes(machine_memory), _bytes(machine_disk))
    prices = Prices(**options_of(Prices, given))
    kept = {
        **options_of(Wanted, given),
        "encoder": _named(encoder),
        "texts": _count(texts, "--texts", least=0),
        "thumbnails": _side(thumbnails),
        "image_bytes": None if image_size is None else float(_bytes(image_size)),
    }
    plans = [
        make_plan(Wanted(**{**kept, "images": count}), rates, machine, prices) for count in counts
    ]

    def text() -> str:
        shown = plan_text(plans[0]) if len(plans) == 1 else plans_markdown(plans)
        return f"{shown}\n{explanation(plans[0], rates)}" if explain else shown

    body: dict[str, Any] = {"plans": [_facts(one) for one in plans]}
    if explain:
        body["sources"] = _sources()
    print_result(body, text, as_json=as_json)


def _count(text: str, name: str, least: int = 1) -> int:
    """Parse a number of items such as 1000000 or 1e9; raises UsageError for others."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= _MOST_ITEMS or number != int(number):
        raise UsageError(
            f"{name} takes a whole number from {least} to {_MOST_ITEMS:.0e}, such as 1e9, "
            f"not {text!r}."
        )
    return int(number)


def _side(text: str) -> int | None:
    if text == "none":
        return None
    if text.isascii() and text.isdecimal() and 16 <= int(text) <= 10_000:
        return int(text)
    raise UsageError(f"--thumbnails takes pixels from 16 to 10000, or none, not {text!r}.")


def _bytes(text: str) -> int:
    size = parse_size(text)
    if size < 1:
        raise UsageError(f"{text!r} is no size: at least a byte is needed.")
    return size


def _named(encoder: str) -> str:
    """Return the recommended encoder for `auto`, which would ask the model hub."""
    from retrieval.encoders.registry import AUTO, RECOMMENDED

    return RECOMMENDED if encoder == AUTO else encoder


def _facts(plan: "Plan") -> dict[str, Any]:
    """Describe a plan for JSON, with its sums."""
    from benchmarks.capacity.commands import commands_of
    from benchmarks.capacity.storage import index_kinds

    return {
        **asdict(plan),
        "index_kinds": dict(index_kinds(plan)),
        "stored_bytes": plan.bytes_at("stored"),
        "money_once": plan.total(monthly=False),
        "money_monthly": plan.total(monthly=True),
        "commands": list(commands_of(plan)),
    }


def _sources() -> dict[str, Any]:
    from benchmarks.capacity.constants import constants

    return {name: asdict(constant) for name, constant in constants().items()}
