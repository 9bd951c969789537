"""Index generations on disk: `image-7.faiss` and `image-7.json`, written once, then replaced.

The JSON file is written last: a generation without it does not exist. No file is read whose length
and checksum are not those of its JSON file. That tells of damage, not of a stranger's intent, who
can compute them too: so only engines are asked that check all that they read.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xxhash

from retrieval.embeddings import Rows
from retrieval.errors import LibraryError, LibraryLockedError
from retrieval.files import checksum_of_file, replacing, write_atomically
from retrieval.indices.base import (
    ENGINES,
    Effort,
    IndexUnavailableError,
    UnsafeIndexError,
    VectorEngine,
    load_engine,
)
from retrieval.indices.faiss import MISSING
from retrieval.media import Modality

FORMAT_VERSION = 1

_SUFFIXES = "|".join([*map(re.escape, ENGINES), "json"])
_NAMES_ON_DISK = {"kind": "factory", "version": "faiss", "breadth": "nprobe"}

_T = TypeVar("_T")

_FINGERPRINT_ROWS = 256
_MOST_DESCRIPTION_BYTES = 1 << 20
_MOST_EFFORT = 2**31 - 1
_MOST_QUERY_BITS = 8


class BadGenerationError(Exception):
    """Files of a generation that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Training:
    """How an index was trained.

    of_rows: how many rows there were; sample: how many of them it looked at. quantisation_error:
    `VectorEngine.quantisation_error` of these rows. is_forced: the user chose what to build.
    reasons: sentences for the choice.
    """

    of_rows: int
    sample: int
    quantisation_error: float
    is_forced: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """How the efforts of searches were found.

    of_rows: how many rows there were. target_recall: what was asked for, at 10 hits. settings: by
    the modality of the query.
    """

    of_rows: int
    target_recall: float
    settings: dict[Modality, Effort]


@dataclass(frozen=True)
class Generation:
    """Description of an index on disk. It covers rows 0 .. rows-1 of the embeddings.

    kind: what was built, in the engine's words. details: facts of this engine alone. size: of the
    file, in bytes. checksum: xxh3-128 of the file. fingerprint: of some of the rows that it covers.
    version: of the engine's library. engine: its name in `ENGINES`.
    """

    modality: str
    number: int
    rows: int
    dimension: int
    kind: str
    details: dict[str, Any]
    size: int
    checksum: str
    fingerprint: str
    training: Training
    tuning: Tuning
    version: str
    created: str
    format_version: int = FORMAT_VERSION
    engine: str = "faiss"

    def index_file(self, directory: Path) -> Path:
        """Where the engine's part of it is."""
        return directory / f"{self.modality}-{self.number}.{self.engine}"

    def effort_for(self, query_modality: Modality) -> Effort:
        """Effort for queries of a modality; the most thorough where it was not tuned for."""
        settings = self.tuning.settings
        if query_modality in settings:
            return settings[query_modality]
        return max(settings.values(), key=lambda e: (e.breadth, e.overfetch), default=Effort())

    def facts(self) -> dict[str, Any]:
        """Describe it as its JSON file does, whose names are those of FAISS."""
        facts: dict[str, Any] = {}
        for name, value in asdict(self).items():
            facts |= value if name == "details" else {_NAMES_ON_DISK.get(name, name): value}
        facts["tuning"]["settings"] = {
            modality: {
                _NAMES_ON_DISK.get(name, name): value
                for name, value in effort.items()
                if (name, value) != ("query_bits", None)  # other kinds' descriptions stay as before
            }
            for modality, effort in facts["tuning"]["settings"].items()
        }
        if self.engine == "faiss":
            del facts["engine"]  # as in libraries from before there were others
        return facts


def latest(
    directory: Path,
    modality: str,
    rows: Rows,
    on_problem: Callable[[str], None] = lambda _reason: None,
) -> Generation | None:
    """Describe the newest usable generation that covers no rows but these, the (n, d) committed.

    Its file is not loaded, nor its checksum compared. on_problem is called for each newer one that
    is not usable.
    """
    return _first_usable(directory, modality, rows, on_problem, lambda generation: generation)


def load_latest(
    directory: Path,
    modality: str,
    rows: Rows,
    on_problem: Callable[[str], None] = lambda _reason: None,
) -> tuple[Generation, VectorEngine] | None:
    """Load what `latest` describes, after its checksum was compared."""
    return _first_usable(
        directory,
        modality,
        rows,
        on_problem,
        lambda generation: (generation, load(directory, generation, rows)),
    )


def generation_numbers(directory: Path, modality: str) -> list[int]:
    """Numbers of the generations that exist, ascending."""
    return sorted(number for number, name in _files(directory, modality) if name.endswith(".json"))


def read_generation(directory: Path, modality: str, number: int, rows: Rows) -> Generation:
    """Read the description of a generation and check that it fits its file and the rows.

    Raises BadGenerationError, or FileNotFoundError where it has been removed.
    """
    file = directory / f"{modality}-{number}.json"
    generation = _parse(file)
    if (generation.modality, generation.number) != (modality, number):
        raise BadGenerationError(f"{file} describes another index")
    if generation.rows > len(rows):
        raise BadGenerationError(
            f"{file} covers {generation.rows:,} rows, but only {len(rows):,} are committed"
        )
    if (
        generation.dimension != rows.shape[1]
        or _fingerprint(rows[: generation.rows]) != generation.fingerprint
    ):
        raise BadGenerationError(f"{file} belongs to other vectors")
    index_file = generation.index_file(directory)
    try:
        size = index_file.stat().st_size
    except FileNotFoundError:
        if not file.exists():
            raise
        raise BadGenerationError(f"{index_file} is missing") from None
    if size != generation.size:
        raise BadGenerationError(
            f"{index_file} is damaged: it has {size:,} bytes, not {generation.size:,}"
        )
    return generation


def load(directory: Path, generation: Generation, rows: Rows) -> VectorEngine:
    """Read the index of a generation into memory, after its checksum was compared.

    rows: the (n, d) committed. Raises BadGenerationError, or FileNotFoundError where it has been
    removed.
    """
    file = generation.index_file(directory)
    if _checksum(file) != generation.checksum:
        raise BadGenerationError(f"{file} is damaged: its checksum is wrong")
    engine = _engine(generation.engine, file)
    if not engine.reads_untrusted:
        raise BadGenerationError(
            f"{file} is refused: files of {engine.library or engine.name} are not checked when "
            "they are read"
        )
    try:
        index = engine.open(file, rows, generation.kind)
    except (ImportError, IndexUnavailableError) as error:
        is_away = isinstance(error, IndexUnavailableError)
        reason = (
            f"cannot be searched: {error}" if is_away else f"needs the package {engine.package}"
        )
        raise BadGenerationError(f"{file} {reason}") from error
    except UnsafeIndexError as error:
        raise BadGenerationError(f"{file} is refused: {error}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise BadGenerationError(f"{file} cannot be read: {error.strerror}") from error
    except RuntimeError as error:
        if not file.exists():
            raise FileNotFoundError(str(file)) from error
        raise BadGenerationError(
            f"{file}, written with {engine.library} {generation.version}, cannot be read with "
            f"{engine.library} {engine.version()}"
        ) from error
    if (len(index), index.dimension) != (generation.rows, generation.dimension):
        raise BadGenerationError(f"{file} holds another index than its description says")
    return index


def find_damage(directory: Path, modality: str, rows: Rows) -> list[tuple[int, str]]:
    """Check all generations against their checksums; return the numbers of bad ones, and why."""
    found = []
    for number in generation_numbers(directory, modality):
        try:
            generation = read_generation(directory, modality, number, rows)
            file = generation.index_file(directory)
            if _checksum(file) != generation.checksum:
                found.append((number, f"{file} is damaged: its checksum is wrong"))
        except FileNotFoundError:
            continue  # a builder has removed it since
        except BadGenerationError as error:
            found.append((number, str(error)))
    return found


def remove_generation(directory: Path, modality: str, number: int) -> None:
    """Delete the files of a generation; the next build makes another. Call it while `building`."""
    for other, name in _descriptions_first(directory, modality):
        if other == number:
            _remove(directory / name)


def discard_all(directory: Path) -> None:
    """Drop what servers hold of a space that is removed, where they can be reached."""
    for modality in Modality:
        for _, name in _descriptions_first(directory, modality):
            _remove(directory / name)


@contextmanager
def building(directory: Path, modality: str) -> Iterator[None]:
    """Hold the right to write generations of a modality; readers are not held up.

    Raises LibraryLockedError at once when somebody else holds it, LibraryError where nothing can be
    written.
    """
    import filelock

    lock = filelock.FileLock(directory / f"{modality}-index.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise LibraryLockedError(
            f"Another process is building the index of {directory.name}/{modality}. Searching goes "
            "on meanwhile."
        ) from None
    except OSError as error:
        raise LibraryError(f"{directory} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()


def write(
    directory: Path,
    modality: str,
    index: VectorEngine,
    rows: Rows,
    training: Training,
    tuning: Tuning,
) -> Generation:
    """Write the next generation, an index over all of the (n, d) rows, and remove earlier ones.

    Must be called while `building`. A crash at any instant leaves the earlier generation or this
    one. Raises LibraryError when it cannot be written.
    """
    number = max((number for number, _ in _files(directory, modality)), default=0) + 1
    index_file = directory / f"{modality}-{number}.{index.name}"
    description_file = index_file.with_suffix(".json")
    try:
        with replacing(index_file, durable=True) as unfinished:
            try:
                index.save(unfinished)
            except RuntimeError as error:  # FAISS's error for a full disk
                raise LibraryError(
                    f"{index_file} cannot be written: {str(error).splitlines()[-1]}. There may be "
                    "no space left on its disk. Searches go on without it."
                ) from error
            size, checksum = unfinished.stat().st_size, _checksum(unfinished)
        generation = Generation(
            modality=modality,
            number=number,
            rows=len(rows),
            dimension=rows.shape[1],
            kind=index.kind,
            details=index.details(),
            size=size,
            checksum=checksum,
            fingerprint=_fingerprint(rows),
            training=training,
            tuning=tuning,
            version=index.version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            engine=index.name,
        )
        description = json.dumps(generation.facts(), indent=2).encode()
        write_atomically(description_file, description, durable=True)
    except OSError as error:
        raise LibraryError(
            f"{index_file} cannot be written: {error.strerror}. Searches go on without it."
        ) from error
    _remove_others(directory, modality, index_file)
    return generation


def _first_usable(
    directory: Path,
    modality: str,
    rows: Rows,
    on_problem: Callable[[str], None],
    use: Callable[[Generation], _T],
) -> _T | None:
    numbers: list[int] | None = None
    while numbers != (numbers := generation_numbers(directory, modality)):
        for number in reversed(numbers):
            try:
                return use(read_generation(directory, modality, number, rows))
            except FileNotFoundError:
                continue  # a builder has removed it since, and there is a newer one
            except BadGenerationError as error:
                on_problem(str(error))
    return None


def _files(directory: Path, modality: str) -> list[tuple[int, str]]:
    """Numbers and names of the files of all generations, unfinished ones too."""
    unfinished = r"(?:\.tmp|\.\w+\.new)?"  # earlier versions wrote the former
    pattern = re.compile(rf"{re.escape(modality)}-([0-9]{{1,15}})\.(?:{_SUFFIXES}){unfinished}")
    with suppress(FileNotFoundError):
        return [
            (int(match[1]), match[0])
            for name in os.listdir(directory)  # noqa: PTH208 - in the way of every search
            if (match := pattern.fullmatch(name))
        ]
    return []


def _remove_others(directory: Path, modality: str, kept: Path) -> None:
    for _, name in _descriptions_first(directory, modality):
        if Path(name).stem != kept.stem:
            _remove(directory / name, kept)


def _descriptions_first(directory: Path, modality: str) -> list[tuple[int, str]]:
    """List files as they are removed: no reader must meet a description without its index."""
    return sorted(_files(directory, modality), key=lambda file: not file[1].endswith(".json"))


def _remove(file: Path, kept: Path | None = None) -> None:
    """Remove a file of a generation, and what a server holds for it, but not what `kept` needs.

    Where that fails the file stays: the next build tries again.
    """
    engine = file.suffix[1:]
    if engine in ENGINES and not load_engine(engine).discard(file, kept):
        return
    with suppress(OSError):  # Windows keeps files that are open
        file.unlink()


def _engine(name: str, file: Path) -> type[VectorEngine]:
    """Import the engine that a file is of; only FAISS is needed to do that."""
    try:
        return load_engine(name)
    except ImportError as error:
        raise BadGenerationError(f"{file} {MISSING}") from error


def _parse(file: Path) -> Generation:
    try:
        if file.stat().st_size > _MOST_DESCRIPTION_BYTES:
            raise BadGenerationError(f"{file} is damaged: it is too large")
        facts: Any = json.loads(file.read_text(encoding="utf-8"))
        if facts["format_version"] != FORMAT_VERSION:
            raise BadGenerationError(
                f"{file} has the format {facts['format_version']}, not {FORMAT_VERSION}"
            )
        engine = _engine(facts.get("engine", "faiss"), file)
        facts |= {name: facts.pop(_NAMES_ON_DISK[name]) for name in ("kind", "version")}
        facts["details"] = {name: facts.pop(name) for name in engine.detail_names}
        training, tuning = facts["training"], facts["tuning"]
        training["reasons"] = tuple(training["reasons"])
        tuning["settings"] = {
            Modality(name): Effort(effort.pop("nprobe"), **effort)
            for name, effort in tuning["settings"].items()
            if name in set(Modality)
        }
        facts |= {"training": Training(**training), "tuning": Tuning(**tuning)}
        generation = Generation(**facts)
        efforts = [
            value
            for effort in generation.tuning.settings.values()
            for value in (effort.breadth, effort.overfetch)
        ]
        chosen = [effort.query_bits for effort in generation.tuning.settings.values()]
        bits = [number for number in chosen if number is not None]
        numbers = [generation.rows, generation.size, generation.training.of_rows, *efforts, *bits]
        texts = [generation.kind, generation.version, *generation.training.reasons]
        if (
            not all(isinstance(number, int) and number > 0 for number in numbers)
            or max(efforts, default=0) > _MOST_EFFORT
            or max(bits, default=0) > _MOST_QUERY_BITS
            or not all(isinstance(text, str) for text in texts)
        ):
            raise BadGenerationError(f"{file} is damaged: it has impossible numbers")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadGenerationError(f"{file} is damaged: {str(error)[:200]}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise BadGenerationError(f"{file} cannot be read: {error.strerror}") from error
    return generation


def _checksum(file: Path) -> str:
    try:
        return checksum_of_file(file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadGenerationError(f"{file} cannot be read: {error.strerror}") from error


def _fingerprint(rows: Rows) -> str:
    """Tell these rows from others that a restored catalog or embeddings file may bring."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, _FINGERPRINT_ROWS).astype(np.int64))
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(rows[chosen]).tobytes())
