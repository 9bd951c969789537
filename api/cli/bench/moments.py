"""`mmsearch bench moments`: moments of videos by captions, and videos by clips."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import (
    DatasetOption,
    JsonFileOption,
    MarkdownOption,
    load_chosen_encoder,
)
from api.cli.options import (
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguageOption,
    SeedOption,
    SplitOption,
    option,
    print_result,
)
from retrieval.errors import UsageError


def moments(
    dataset: DatasetOption,
    split: SplitOption = None,
    language: LanguageOption = None,
    videos: Annotated[
        int, typer.Option("--videos", min=1, help="Maximum number of videos to compose.")
    ] = 20,
    shots: Annotated[
        int, typer.Option("--shots", min=2, help="Number of shots of a video, a photo each.")
    ] = 6,
    lengths: Annotated[
        str, option("--lengths", "LEAST,MOST", "Shortest and longest shot in seconds.")
    ] = "2,5",
    still: Annotated[
        float,
        option("--still", "S", "Seconds of one shot of each video that does not move.", min=0),
    ] = 0,
    encoder: EncoderOption = "starter",
    json_file: JsonFileOption = None,
    markdown_file: MarkdownOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how captions find moments of videos that are composed of the captioned photos."""
    from api.cli import console
    from api.cli.bench.options import parse_numbers
    from benchmarks.datasets import load_dataset
    from benchmarks.quality.composed_videos import Lengths
    from benchmarks.quality.moments import measure_moments, moments_markdown
    from benchmarks.quality.relevance import captioned

    seconds = parse_numbers(
        lengths, "--lengths", "seconds, the least and the most", float, lambda s: s > 0, fewest=2
    )
    if len(seconds) != 2 or seconds[0] > seconds[1]:
        raise UsageError(f"--lengths takes the least and the most seconds, not {lengths!r}.")
    data = load_dataset(dataset, split=split, language=language)
    photos = captioned(data)[: videos * shots]
    loaded = load_chosen_encoder(encoder, device)
    with tempfile.TemporaryDirectory() as folder, console.stage_progress() as progress:
        result = measure_moments(
            photos,
            loaded,
            Path(folder),
            shots=shots,
            lengths=Lengths(seconds[0], seconds[1], still),
            seed=seed,
            on_progress=progress,
        )
    body = {"dataset": dataset, "split": data.split, "encoder": encoder, **asdict(result)}
    if json_file:
        json_file.write_text(json.dumps(body, ensure_ascii=False, indent=1), "utf-8")
    if markdown_file:
        markdown_file.write_text(moments_markdown(result), encoding="utf-8")
    print_result(body, lambda: moments_markdown(result), as_json=as_json)
