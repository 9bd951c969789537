"""The one door to a library: creates, opens, checks and locks the directory that holds all."""

import os
import tomllib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import platformdirs
import tomli_w

from retrieval.catalog import Catalog, Modality
from retrieval.catalog.dialects.sqlite import WRITER_LOCK, WRITER_NOTE
from retrieval.embeddings import EmbeddingsFile
from retrieval.encoders.base import Space
from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from retrieval.rerankers.token_cache import TokenCache

if TYPE_CHECKING:
    from PIL.Image import Image

    from retrieval.filters import Filter
    from retrieval.search.answer import Answer
    from retrieval.search.engine import Engine

_T = TypeVar("_T", "Manifest", Space)

FORMAT_VERSION = 1

_MANIFEST = "library.toml"
_CATALOG = "catalog.sqlite"
_OWN_NAMES = {_MANIFEST, WRITER_LOCK, WRITER_NOTE, "spaces", "thumbnails", "tokens"}


@dataclass(frozen=True)
class Manifest:
    """What `library.toml` says; `default_space` is the id of the space that searches use."""

    format_version: int
    default_space: str
    created_by: str


def default_library_path() -> Path:
    """`MMSEARCH_LIBRARY`, else a directory in the user's data directory."""
    if configured := os.environ.get("MMSEARCH_LIBRARY"):
        return Path(configured)
    return Path(platformdirs.user_data_dir("mmsearch", appauthor=False)) / "library"


def library_exists(path: Path) -> bool:
    """Whether a directory holds a library, complete or damaged."""
    return (path / _MANIFEST).exists()


def open_library(path: str | os.PathLike[str] | None = None, *, upgrade: bool = False) -> "Library":
    """Open an existing library; a writer asks to `upgrade` the catalog of an older version.

    Raises NotFoundError when there is none, LibraryError when another version made it,
    DamagedLibraryError when its files cannot be read or contradict each other.
    """
    directory = Path(path) if path is not None else default_library_path()
    if not directory.exists():
        raise NotFoundError(
            f"There is no library at {directory}. Make one with `mmsearch index PATH...`, or name "
            "another with `--library DIR`."
        )
    manifest = _read_manifest(directory)
    library = Library(directory, manifest)
    library.catalog.check_schema(upgrade=upgrade)
    library.space()
    return library


def create_library(path: str | os.PathLike[str], space: Space) -> "Library":
    """Create a library with one space, or complete one whose creation was interrupted.

    Raises UsageError when the directory holds anything else, LibraryError when it cannot be
    written.
    """
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        foreign = [
            entry.name
            for entry in directory.iterdir()
            if entry.name not in _OWN_NAMES and not entry.name.startswith((_CATALOG, _MANIFEST))
        ]
        if foreign:
            raise UsageError(
                f"{directory} is not a library and not empty (it holds {foreign[0]!r}). Choose a "
                "new or empty directory with `--library DIR`."
            )
        manifest = Manifest(FORMAT_VERSION, space.id, f"mmsearch {version('mmsearch')}")
        library = Library(directory, manifest)
        with library.writer():
            if library_exists(directory):  # another process was faster
                return open_library(directory)
            library.catalog.migrate()
            library.add_space(space)
            (directory / "thumbnails").mkdir(exist_ok=True)
            _write_atomically(directory / _MANIFEST, tomli_w.dumps(asdict(manifest)))
    except OSError as error:
        raise LibraryError(f"{directory} cannot be made a library: {error.strerror}.") from error
    return library


class Library:
    """One directory on disk: catalog, embeddings by space, manifest.

    Use `open_library` or `create_library`.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path.absolute()
        self.manifest = manifest
        self.catalog = Catalog(self.path / _CATALOG)
        self._engine: Engine | None = None

    @property
    def thumbnails(self) -> Path:
        """Where thumbnails are cached; everything in it can be made again."""
        return self.path / "thumbnails"

    @cached_property
    def tokens(self) -> TokenCache:
        """What the reranker needs of images, kept as far as its limit allows."""
        return TokenCache(self.path / "tokens")

    def space_ids(self) -> list[str]:
        """The spaces of this library, sorted."""
        return sorted(entry.parent.name for entry in self.path.glob("spaces/*/space.toml"))

    def space(self, space_id: str | None = None) -> Space:
        """A space by its id, or the default one.

        Raises UsageError for an unknown id, DamagedLibraryError for a description that cannot be
        read or is not the one that its directory is named after.
        """
        wanted = space_id or self.manifest.default_space
        file = self._space_directory(wanted) / "space.toml"
        if not file.exists():
            if space_id:
                known = ", ".join(self.space_ids())
                raise UsageError(f"{self.path} has no space {space_id!r}. It has: {known}.")
            raise DamagedLibraryError(f"{file} is missing. Restore it from a backup.")
        space = _parse(Space, file)
        if space.id != wanted:
            raise DamagedLibraryError(
                f"{file} describes the space {space.id}, not {wanted}: it was edited or damaged. "
                "Restore it from a backup."
            )
        return space

    def add_space(self, space: Space) -> None:
        """Add a space beside those that exist; the default stays."""
        directory = self._space_directory(space.id)
        directory.mkdir(parents=True, exist_ok=True)
        _write_atomically(directory / "space.toml", tomli_w.dumps(asdict(space)))

    def require_space(self, space: Space, *, among: Space | None = None) -> None:
        """Raise SpaceMismatchError unless an encoder's space is the library's own."""
        own = among or self.space()
        if space == own:
            return
        differing = ", ".join(
            name for name, value in asdict(own).items() if asdict(space)[name] != value
        )
        raise SpaceMismatchError(
            f"{self.path} holds vectors of the encoder {own.encoder!r} (space {own.id}), but the "
            f"encoder at hand is {space.encoder!r} (space {space.id}); they differ in: "
            f"{differing}. Vectors of two spaces cannot be compared. Either use the library's own "
            f"encoder, or add a second space with `mmsearch index PATH... --encoder "
            f"{space.encoder} --space new`, or index into a new library (`--library NEW_DIR`)."
        )

    def embeddings(self, space: Space, modality: Modality) -> EmbeddingsFile:
        """The vectors of one space and modality."""
        return EmbeddingsFile(self._space_directory(space.id) / f"{modality}.f16", space.dimension)

    def space_directory(self, space: Space) -> Path:
        """Where the embeddings of a space and the indices over them are."""
        return self._space_directory(space.id)

    def writer(self) -> AbstractContextManager[None]:
        """Hold the right to write; released when the process ends, however it ends.

        Raises LibraryLockedError at once when another process holds it.
        """
        return self.catalog.dialect.writer()

    def search(
        self,
        text: str | None = None,
        *,
        image: "str | os.PathLike[str] | Image | None" = None,
        minus: Iterable[str] = (),
        like: Iterable[int] = (),
        k: int = 10,
        modality: str = "image",
        where: "Filter | None" = None,
        mode: str = "auto",
        min_relevance: float = 0.0,
        group_by_file: bool = False,
        diversity: float = 0.0,
        cursor: str | None = None,
        rerank: str = "auto",
        rerank_depth: int | None = None,
    ) -> "Answer":
        """Find the items nearest to a text, an image, or both: an `Answer` is its hits, best first.

        minus: texts that they are to be far from. like: ids of items that they are to be near to.
        modality: `image` finds images, frames and pages; `text` finds passages. mode: `vector`
        finds by meaning, `text` by words, `hybrid` by both, `auto` by both where it helps. The
        others are as in `Query`.

        The encoder is loaded at the first call and kept. Raises UsageError for an empty query, an
        unknown modality, mode or reranker and a cursor of another query, NotFoundError for an
        unknown item.
        """
        from retrieval.search.engine import Engine, Reranking
        from retrieval.search.query import Query, parse_modality, parse_mode, read_parts

        if self._engine is None:
            self._engine = Engine(self)
        query = Query(
            read_parts(text, image, minus=minus, like=like),
            k=k,
            modality=parse_modality(modality),
            where=where,
            mode=parse_mode(mode),
            min_relevance=min_relevance,
            group_by_file=group_by_file,
            diversity=diversity,
            cursor=cursor,
        )
        return self._engine.search(query, Reranking(rerank, rerank_depth))

    def close(self) -> None:
        """Close the catalog's connections."""
        self.catalog.close()

    def _space_directory(self, space_id: str) -> Path:
        return self.path / "spaces" / space_id


def _read_manifest(directory: Path) -> Manifest:
    file = directory / _MANIFEST
    if not file.exists():
        if any(directory.glob(f"{_CATALOG}*")):
            raise DamagedLibraryError(
                f"{file} is missing, but {directory} has a catalog: an interrupted creation, or "
                "the file was deleted. `mmsearch index` with the same encoder completes it; "
                "nothing that is there will be overwritten."
            )
        raise NotFoundError(
            f"{directory} is not a library. Make one with `mmsearch index PATH...`, or name "
            "another with `--library DIR`."
        )
    found = _load_toml(file).get("format_version")
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise LibraryError(
            f"{directory} was written by a newer version of mmsearch (format {found}; this "
            f"version knows {FORMAT_VERSION}). Upgrade with `pip install -U mmsearch`."
        )
    return _parse(Manifest, file)


def _load_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DamagedLibraryError(
            f"{file} cannot be read: {error}. Restore it from a backup, or correct it by hand; "
            "nothing was overwritten."
        ) from error


def _parse(kind: type[_T], file: Path) -> _T:
    fields: dict[str, Any] = _load_toml(file)
    expected: dict[str, type] = kind.__annotations__
    wrong = [
        name
        for name in {*expected, *fields}
        if name not in expected or not isinstance(fields.get(name), expected[name])
    ]
    if wrong:
        raise DamagedLibraryError(
            f"{file} has missing, unknown or wrong fields: {', '.join(sorted(wrong))}. Restore it "
            "from a backup, or correct it by hand; nothing was overwritten."
        )
    return kind(**fields)


def _write_atomically(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
