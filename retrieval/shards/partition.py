"""Make the shards of a library: directories that each hold a part of it, with the ids of the whole.

A shard is a library of its own. Beside its embeddings lie the numbers that its rows have in the
whole library: they order equal scores, and choose the sample of the calibration, as one library
does.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.catalog import Catalog
from retrieval.catalog.partition import Extents, keep_shard
from retrieval.embeddings import EmbeddingsFile
from retrieval.errors import DamagedLibraryError, UsageError
from retrieval.files import make_directories, write_atomically
from retrieval.indices.maintenance import committed_rows
from retrieval.library import Library, open_library
from retrieval.media import Modality

_SHARD = "shard.json"
_CATALOG = "catalog.sqlite"
_BLOCK_ROWS = 100_000
_KEPT = ("library.toml", "config.toml", "tokens/settings.toml")
_OF_SPACE = ("space.toml", "relevance.json")
_FORMAT = 1

MAX_SHARDS = 1024

Progress = Callable[[int, int], None]
"""Called with the number of shards that are made, and of all."""


@dataclass(frozen=True)
class ShardFacts:
    """Which part of a library a directory holds.

    index: from 0. count: of all shards. origin: of what it was made, the same in all shards of one
    library as it was at one time.
    """

    index: int
    count: int
    origin: str
    format: int = _FORMAT


def make_shards(
    library: Library, directory: Path, count: int, on_progress: Progress = lambda *_: None
) -> list[Path]:
    """Make the shards of a library below a directory; those that are up to date are kept.

    Nothing is embedded again. Raises UsageError for a number of shards that cannot be.
    """
    if not 1 <= count <= MAX_SHARDS:
        raise UsageError(f"A library has 1 to {MAX_SHARDS:,} shards, not {count:,}.")
    with library.writer():  # nothing changes meanwhile
        origin = _state_of(library)
        made = []
        for index, path in enumerate(shard_directories(directory, count)):
            facts = ShardFacts(index, count, origin)
            if read_facts(path) != facts:
                _make_shard(library, path, facts)
            made.append(path)
            on_progress(len(made), count)
    return made


def shard_directories(directory: Path, count: int) -> list[Path]:
    """List the directories of the shards below one; of a single one that itself."""
    if count == 1:
        return [directory]
    return [directory / f"shard-{index + 1}-of-{count}" for index in range(count)]


def read_facts(directory: Path) -> ShardFacts | None:
    """Read which shard a directory holds; None: none, or one of another version.

    A copy of a part of a Lance table is one, too.
    """
    if not (directory / _SHARD).exists():
        return _facts_of_copy(directory)
    try:
        facts = ShardFacts(**json.loads((directory / _SHARD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return facts if facts.format == _FORMAT else None


def _facts_of_copy(directory: Path) -> ShardFacts | None:
    from retrieval.lance.copies import read_states

    copies = [state for state in read_states(directory).values() if state.keeps_ids]
    if len(copies) != 1:
        return None
    return ShardFacts(copies[0].shard, copies[0].shards, copies[0].location)


def require_shards(directories: Sequence[Path]) -> None:
    """Raise UsageError unless these are all shards of one library, in their order."""
    found = [read_facts(path) for path in directories]
    for path, facts in zip(directories, found, strict=True):
        if facts is None:
            raise UsageError(
                f"{path} is no shard of a library. `--shards N` makes shards of one library; "
                "libraries that have nothing to do with each other are served with names: "
                "`--library photos=DIR --library work=DIR2`, without `--cluster`."
            )
    expected = [
        ShardFacts(index, len(directories), facts.origin if facts else "")
        for index, facts in enumerate(found[:1] * len(directories))
    ]
    if found != expected:
        raise UsageError(
            f"{', '.join(map(str, directories))} are not all shards of one library in their order. "
            "Name each of them once, from the first to the last; or let `--shards N` make them."
        )


class RowNumbers:
    """The numbers that the rows of a shard have in the whole library.

    Shards that are copies of a table have no whole library, and grow: their rows take turns.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._numbers = cache(self._read)
        self._of_copy = lru_cache(4)(self._in_turn)
        self._is_made = (library.path / _SHARD).exists()

    def of(self, space_id: str, modality: Modality, count: int) -> NDArray[np.int64]:
        """Return the numbers of the first rows, (count,) ascending."""
        if not self._is_made:
            return self._of_copy(count)
        numbers = self._numbers(space_id, modality)
        if len(numbers) < count:
            raise DamagedLibraryError(
                f"{self._library.path} has rows that its shard does not number: it was written to "
                "after it was made. Delete it, and make the shards again."
            )
        return numbers[:count]

    def _in_turn(self, count: int) -> NDArray[np.int64]:
        facts = read_facts(self._library.path) or ShardFacts(0, 1, "")
        return np.arange(count, dtype=np.int64) * facts.count + facts.index

    def _read(self, space_id: str, modality: Modality) -> NDArray[np.int64]:
        file = self._library.path / _numbers_file(space_id, modality)
        try:
            numbers = np.load(file, allow_pickle=False)
        except FileNotFoundError:
            return np.empty(0, np.int64)
        except (OSError, ValueError) as error:
            raise DamagedLibraryError(f"{file} cannot be read: {error}.") from error
        if numbers.dtype != np.int64 or numbers.ndim != 1 or (np.diff(numbers) <= 0).any():
            raise DamagedLibraryError(f"{file} does not hold ascending numbers of rows.")
        return np.asarray(numbers)


def _numbers_file(space_id: str, modality: Modality) -> str:
    return f"spaces/{space_id}/{modality}-rows.npy"


def _state_of(library: Library) -> str:
    """Describe a library as it is now, in a digest of its catalog."""
    digest = xxhash.xxh3_128()
    for name in (_CATALOG, f"{_CATALOG}-wal"):
        try:
            with (library.path / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError:
            digest.update(b"\0")
    return digest.hexdigest()


def _make_shard(library: Library, directory: Path, facts: ShardFacts) -> None:
    """Make one shard in the place of what is there; what is written last says that it is whole."""
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_directories(unfinished / "thumbnails")
    library.catalog.dialect.back_up(unfinished / _CATALOG)
    catalog = Catalog(unfinished / _CATALOG)
    with catalog.dialect.connect(write=True) as connection:
        extents = keep_shard(connection, facts.index, facts.count)
    catalog.close()
    _copy_files(library, unfinished)
    _copy_rows(library, unfinished, extents)
    content = json.dumps(asdict(facts)).encode()
    write_atomically(unfinished / _SHARD, content, durable=True)
    open_library(unfinished).close()  # a shard that cannot be opened replaces nothing
    if directory.exists():
        former = directory.with_name(f"{directory.name}.former")
        shutil.rmtree(former, ignore_errors=True)
        directory.rename(former)
        unfinished.rename(directory)
        shutil.rmtree(former, ignore_errors=True)
    else:
        unfinished.rename(directory)


def _copy_files(library: Library, directory: Path) -> None:
    names = [*_KEPT, *(f"spaces/{one}/{name}" for one in library.space_ids() for name in _OF_SPACE)]
    for name in names:
        if (library.path / name).exists():
            make_directories((directory / name).parent)
            shutil.copyfile(library.path / name, directory / name)


def _copy_rows(library: Library, directory: Path, extents: Extents) -> None:
    for (space_id, modality), numbers in extents.items():
        space = library.space(space_id)
        rows = committed_rows(library, space, modality)
        checksums = library.embeddings(space, modality).checksums(len(rows))
        to = EmbeddingsFile(directory / f"spaces/{space_id}/{modality}.f16", space.dimension)
        for begin in range(0, len(numbers), _BLOCK_ROWS):
            chosen = numbers[begin : begin + _BLOCK_ROWS]
            to.copy(rows[chosen], checksums[chosen], begin)
        with (directory / _numbers_file(space_id, modality)).open("wb") as file:
            np.save(file, numbers, allow_pickle=False)
