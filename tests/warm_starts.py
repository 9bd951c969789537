"""What many tests begin with, made once for each process of tests: catalogs, reading processes.

A new catalog goes through all migrations, and each run of the indexer starts processes, which
import what reads files: together a second of CPU for six small pictures. Both are the real thing
here, only older: the catalog is a copy of one that the migrations made, the processes have read
files of earlier tests. Tests that start the program in a process of its own start it cold.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import pytest

from indexer.decoder_pool import DecoderPool, _Worker
from retrieval.catalog.database import Catalog
from retrieval.catalog.dialects.sqlite import SQLite
from retrieval.files import follow_folder

_MOST_SPARE = 4


@contextmanager
def warm_catalogs() -> Iterator[None]:
    """Copy new catalogs of SQLite from one that the migrations made."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        _copy_new_catalogs(patch, Path(folder) / "catalog.sqlite")
        yield


@contextmanager
def warm_readers(*modules: str) -> Iterator[None]:
    """Let the pools that these modules make share their processes, one pool after another."""
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(f"{module}.DecoderPool", _WarmPool)
        yield
        _WarmPool.end_spare()


def _copy_new_catalogs(patch: pytest.MonkeyPatch, template: Path) -> None:
    migrate = Catalog.migrate

    def copy_or_migrate(catalog: Catalog) -> None:
        if isinstance(catalog.dialect, SQLite) and not catalog.dialect.exists():
            if not template.exists():
                first = Catalog(template)
                migrate(first)
                first.close()
            _copy(template, catalog.dialect._path)
        migrate(catalog)

    patch.setattr(Catalog, "migrate", copy_or_migrate)


def _copy(template: Path, path: Path) -> None:
    """Copy a catalog and what lies beside it; nothing where the folder takes no files."""
    made = []
    try:
        for file in template.parent.glob(f"{template.name}*"):
            copy = path.with_name(file.name.replace(template.name, path.name))
            made.append(copy)
            shutil.copyfile(file, copy)
            follow_folder(copy)
    except OSError:  # it is the program's to say why
        for copy in made:
            copy.unlink(missing_ok=True)


class _WarmPool(DecoderPool):
    """Begins with idle processes of earlier pools, and leaves its own to later ones."""

    # A process ends with the thread that started it.
    _starters = ThreadPoolExecutor(_MOST_SPARE, thread_name_prefix="starting readers")
    _inherited: ClassVar[dict[_Worker, object]] = {}
    _spare: ClassVar[list[_Worker]] = []

    def close(self) -> None:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                self._workers.discard(worker)
                self._spare.append(worker)
        super().close()
        while len(self._spare) > _MOST_SPARE:
            self._end_one(self._spare.pop(0))

    def _start(self) -> _Worker:
        surroundings = _surroundings()
        for worker in tuple(self._spare):
            if self._inherited[worker] == surroundings:
                with suppress(ValueError):  # where another thread took it
                    self._spare.remove(worker)
                    if worker.is_alive():
                        return self._joined(worker)
                    self._end_one(worker)
        worker = self._starters.submit(super()._start).result()
        self._inherited[worker] = surroundings
        return worker

    def _joined(self, worker: _Worker) -> _Worker:
        with self._lock:
            self._workers.add(worker)
            if self._closed.is_set():
                worker.kill()
        return worker

    @classmethod
    def _end_one(cls, worker: _Worker) -> None:
        del cls._inherited[worker]
        worker.end()

    @classmethod
    def end_spare(cls) -> None:
        """End all processes that wait for a next pool."""
        while cls._spare:
            cls._end_one(cls._spare.pop())


def _surroundings() -> object:
    """What a process inherits: it serves only runs that would have given it the same."""
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return sys.path[:], environment, Path.cwd(), os.geteuid() if os.name == "posix" else 0
