"""Compare indexing with other programs that embed folders of photos.

Each runs as its users run it, in a separate process, on the same files. The time to start is
measured with a single photo and reported separately, since loading a model takes some programs as
long as hundreds of photos.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.speed.photo_maker import found_files
from benchmarks.speed.processes import Finished, run_measured
from retrieval.errors import MMSearchError, UsageError
from retrieval.media import MediaKind

_DATABASE = "db.sqlite3"


class IndexerFailedError(MMSearchError):
    """A measured program ended with an error."""


@dataclass(frozen=True)
class Call:
    """Call of a program: arguments, working directory, additional environment variables."""

    command: Sequence[str]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Indexer:
    """A program that embeds the photos of a folder.

    call: returns the call for a folder of photos and a working folder, empty at first; the same
    arguments again give a second run.
    """

    name: str
    call: Callable[[Path, Path], Call]


@dataclass(frozen=True)
class IndexerSpeed:
    """Speed of a program on `images` photos, in seconds of whole processes.

    start_s: one photo alone. first_s: first run over all photos. second_s: second run without
    changes. peak_memory_bytes: see `processes.Finished`.
    """

    name: str
    images: int
    start_s: float
    first_s: float
    second_s: float
    peak_memory_bytes: int | None

    @property
    def images_per_second(self) -> float:
        """Rate of the first run, including the start."""
        return self.images / self.first_s

    @property
    def images_per_second_started(self) -> float | None:
        """Rate of the first run without the time of one photo; None if nothing remains."""
        seconds = self.first_s - self.start_s
        return (self.images - 1) / seconds if seconds > 0 and self.images > 1 else None


def mmsearch(command: Sequence[str], encoder: str) -> Indexer:
    """Describe this program, called as `command`, with an encoder of `mmsearch index`."""

    def call(photos: Path, workspace: Path) -> Call:
        library = workspace / "library"
        known = [] if library.exists() else ["--encoder", encoder]
        return Call([*command, "index", str(photos), "--library", str(library), *known])

    return Indexer("mmsearch", call)


def rclip(program: Path, models: Path | None = None) -> Indexer:
    """Describe rclip, which embeds new photos and then answers a query, within the measured time.

    models: data directory of rclip with its models, which it would otherwise download into the
    empty data directory of each run.
    """

    def call(photos: Path, workspace: Path) -> Call:
        data = workspace / "data"
        if not data.exists():
            data.mkdir()
            for entry in models.iterdir() if models else ():
                if not entry.name.startswith(_DATABASE):
                    (data / entry.name).symlink_to(entry.absolute())
        command = [str(program), "--filepath-only", "--top", "1", "a photo"]
        return Call(command, photos, {"RCLIP_DATADIR": str(data)})

    return Indexer("rclip", call)


def clip_retrieval(program: Path, encoder: str) -> Indexer:
    """Describe `clip-retrieval inference`, without the index that a second command builds.

    encoder: `open_clip:MODEL/TAG_OR_FILE`, which it reads like this project. A second run repeats
    the work of the first.
    """

    def call(photos: Path, workspace: Path) -> Call:
        options = {
            "input_dataset": photos,
            "output_folder": workspace / "embeddings",
            "enable_text": False,
            "clip_model": encoder,
            "batch_size": 64,
            "num_prepro_workers": max(1, (os.cpu_count() or 1) - 1),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return Call([str(program), "inference", *words], workspace)

    return Indexer("clip-retrieval", call)


def measure_indexers(
    photos: Path,
    indexers: Sequence[Indexer],
    *,
    limit: int = 300,
    on_done: Callable[[IndexerSpeed], None] = lambda _: None,
) -> list[IndexerSpeed]:
    """Run each program three times on the first `limit` photos below a folder, one after another.

    Args:
        photos: the folder.
        indexers: the programs.
        limit: maximum number of photos.
        on_done: called with the speed of each program.

    Raises:
        UsageError: the folder has no photos.
        IndexerFailedError: a program failed; with what it printed.
    """
    images = [file.path for file in found_files(photos) if file.kind is MediaKind.IMAGE]
    found = images[:limit]
    if not found:
        raise UsageError(f"No images found in {photos}.")
    results = []
    with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as folder:
        first_photo, all_photos = Path(folder, "one"), Path(folder, "all")
        for chosen, files in ((first_photo, found[:1]), (all_photos, found)):
            chosen.mkdir()
            for number, file in enumerate(files):
                shutil.copyfile(file, chosen / f"{number:07}{Path(file).suffix.lower()}")
        for indexer in indexers:
            started = _run(indexer, first_photo, Path(folder, f"{indexer.name}-one"))
            workspace = Path(folder, f"{indexer.name}-all")
            first = _run(indexer, all_photos, workspace)
            second = _run(indexer, all_photos, workspace)
            speed = IndexerSpeed(
                name=indexer.name,
                images=len(found),
                start_s=started.seconds,
                first_s=first.seconds,
                second_s=second.seconds,
                peak_memory_bytes=first.peak_memory_bytes,
            )
            results.append(speed)
            on_done(speed)
    return results


def _run(indexer: Indexer, photos: Path, workspace: Path) -> Finished:
    workspace.mkdir(exist_ok=True)
    call = indexer.call(photos, workspace)
    finished = run_measured(call.command, folder=call.folder, environment=call.environment)
    if finished.exit_code:
        raise IndexerFailedError(
            f"{indexer.name} ended with exit code {finished.exit_code}:\n{finished.output}"
        )
    return finished
