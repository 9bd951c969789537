"""Create, open, check and lock a library: the directory with catalog, embeddings and indices."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_origin

import tomli_w

from retrieval.catalog import Catalog
from retrieval.catalog.curation import Collections, SavedSearches
from retrieval.catalog.dialects.base import lost_commits_message
from retrieval.catalog.trusted import CATALOGS, given_catalog, require_trusted_catalog
from retrieval.embeddings import EmbeddingsFile
from retrieval.encoders.base import Space
from retrieval.encoders.trust import require_inside
from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    LibraryGoneError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from retrieval.files import (
    PRIVATE_FOLDER,
    SHARED_FOLDER,
    expand_home,
    make_directories,
    read_toml,
    set_permissions,
    user_data_directory,
    write_atomically,
)
from retrieval.media import Modality
from retrieval.recognition.base import SETTINGS, Task
from retrieval.relocation import Relocation, find_moved_beside, plan_relocation, relocate
from retrieval.rerankers.token_cache import TokenCache

if TYPE_CHECKING:
    from PIL.Image import Image

    from retrieval.filters import Filter
    from retrieval.search.answer import Answer
    from retrieval.search.facet_values import FacetValues
    from retrieval.search.facets import Facets
    from retrieval.search.joint import JointEngine

_T = TypeVar("_T", "Manifest", Space)

FORMAT_VERSION = 1

_MANIFEST = "library.toml"
_CATALOG = "catalog.sqlite"
_DIRECTORIES = {"spaces", "thumbnails", "tokens"}
_OPTIONAL: dict[str, Any] = {"catalog": "", "enrichment": {}}
"""Fields of the manifest that `library.toml` may lack, with what stands for them."""


@dataclass(frozen=True)
class Manifest:
    """Content of `library.toml`; `default_space` is the id of the space that searches use.

    catalog: the URL of the catalog where it is in a database server; "" for a file of the library.
    enrichment: names of the models that look for texts, by `SETTINGS` of the tasks.
    Raises ValueError for values that cannot be.
    """

    format_version: int
    default_space: str
    created_by: str
    catalog: str = ""
    enrichment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format_version < 1 or not _is_space_id(self.default_space):
            raise ValueError
        for setting, name in self.enrichment.items():
            if setting not in SETTINGS.values() or not isinstance(name, str) or not name:
                raise ValueError


def default_library_path() -> Path:
    """Return `MMSEARCH_LIBRARY`, else a directory in the user's data directory."""
    if configured := os.environ.get("MMSEARCH_LIBRARY"):
        try:
            return expand_home(Path(configured))
        except ValueError as error:
            raise UsageError(f"MMSEARCH_LIBRARY: {error}.") from None
    return user_data_directory() / "library"


def library_exists(path: Path) -> bool:
    """Return whether a directory holds a library, complete or damaged."""
    return (path / _MANIFEST).exists()


def read_sources(path: Path) -> list[str]:
    """Read the sources of a library that any version made; raises MMSearchError if that fails."""
    try:
        elsewhere = str(read_toml(path / _MANIFEST).get("catalog", ""))
    except (OSError, ValueError):
        elsewhere = ""
    if elsewhere:
        require_trusted_catalog(elsewhere, path)
    catalog = Catalog(elsewhere or path / _CATALOG)
    try:
        with catalog.snapshot() as snapshot:
            return snapshot.sources()
    finally:
        catalog.close()


def is_table(path: str | os.PathLike[str]) -> bool:
    """Return whether a library is named as a table of Lance: `lance:DIR`, `lance+s3://...`."""
    return re.match(r"lance(\+[a-z0-9]+)?:", os.fspath(path)) is not None


def is_place_for_library(path: Path) -> bool:
    """Return whether there is no library yet in a directory, and one can be created there."""
    if is_table(path):
        return False
    try:
        return not library_exists(path) and not (path.exists() and _foreign_entries(path))
    except OSError:  # not a directory, or not readable: opening it says so
        return False


def _foreign_entries(directory: Path) -> list[str]:
    """List what a directory has besides the parts of a library."""
    names = (_MANIFEST, *Catalog(directory / _CATALOG).dialect.file_names)
    return [
        entry.name
        for entry in directory.iterdir()
        if entry.name not in _DIRECTORIES and not entry.name.startswith(names)
    ]


def open_library(path: str | os.PathLike[str] | None = None, *, upgrade: bool = False) -> "Library":
    """Open an existing library. upgrade: migrate the catalog of an older version (writers only).

    Sources that were moved together with the library are followed.

    Raises NotFoundError if it does not exist, LibraryError if a newer version made it,
    DamagedLibraryError if its files cannot be read or are inconsistent.
    """
    directory = Path(path) if path is not None else default_library_path()
    if is_table(path if path is not None else directory):
        from retrieval.lance.library import open_table

        return open_table(path if path is not None else directory)
    if not directory.exists():
        raise NotFoundError(
            f"There is no library at {directory}. Create one with `mmsearch index PATH...`, or "
            "choose another with `--library DIR`."
        )
    require_inside(directory, _paths_of(directory))
    manifest = _read_manifest(directory)
    if manifest.catalog:
        require_trusted_catalog(manifest.catalog, directory)
    library = Library(directory, manifest)
    library.catalog.check_schema(upgrade=upgrade)
    library.space()
    library.warn_of_lost_commits()
    library.follow_moved_sources()
    return library


def create_library(
    path: str | os.PathLike[str], space: Space, *, catalog: str | None = None
) -> "Library":
    """Create a library with one space, or complete one whose creation was interrupted.

    Only its owner can read its files; `Library.share` changes that.

    Args:
        path: Directory: new or empty.
        space: Its first space, and the default one.
        catalog: URL of a database for the catalog, `postgresql://USER@HOST/DATABASE?schema=NAME`;
            each library has a schema of its own. (default: an SQLite file in the directory)

    Raises UsageError if the directory has other files, or the schema the catalog of another
    library; LibraryError if one of them cannot be written.
    """
    if is_table(path):
        raise UsageError(
            f"{path} is to be a table, which takes what `mmsearch index SOURCE --cluster local "
            "--library lance:...` embeds, or `mmsearch export --lance` writes."
        )
    directory = Path(path)
    url = given_catalog(catalog) if catalog is not None else ""
    if url:
        CATALOGS.add(url)
    try:
        make_directories(directory)
        manifest = Manifest(FORMAT_VERSION, space.id, f"mmsearch {version('mmsearch')}", url)
        library = Library(directory, manifest)
        if foreign := _foreign_entries(directory):
            raise UsageError(
                f"{directory} is not a library and not empty (it contains {foreign[0]!r}). Choose "
                "a new or empty directory with `--library DIR`."
            )
        if not library_exists(directory):
            set_permissions(directory, PRIVATE_FOLDER)
        with library.writer():
            if library_exists(directory):  # another process was faster
                return open_library(directory)
            library.catalog.migrate()
            library.catalog.dialect.claim(library.path)
            _require_embeddings(library)
            library.add_space(space)
            make_directories(directory / "thumbnails")
            _write_toml(directory / _MANIFEST, manifest)
    except OSError as error:
        raise LibraryError(f"Cannot create a library in {directory}: {error.strerror}.") from error
    return library


def trust_named_catalog(path: Path, url: str) -> None:
    """Trust the catalog of a library, which the user has named.

    Raises UsageError where the library has another one.
    """
    named, known = given_catalog(url), _read_manifest(path).catalog
    if named != known:
        raise UsageError(
            f"{path} has its catalog in {known or _CATALOG} already. `--catalog` is for new "
            "libraries (`--library NEW_DIR`)."
        )
    CATALOGS.add(named)


class Library:
    """A library: catalog, embeddings by space, manifest.

    Use `open_library` or `create_library` to get one.
    """

    is_table = False
    """Whether it is a table of Lance, and has no directory."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path.absolute()
        self.manifest = manifest
        self.catalog = Catalog(manifest.catalog or self.path / _CATALOG)
        self._warnings: list[str] = []
        self._passing_warnings: dict[str, str] = {}
        self._file = self.path if manifest.catalog else self.path / _CATALOG
        self._opened_file = _identity(self._file)

    @property
    def location(self) -> str:
        """Where the library is, as `open_library` takes it."""
        return str(self.path)

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the library as a whole, and what to do."""
        of_catalog = self.catalog.dialect.warning
        passing = self._passing_warnings.values()
        return [*self._warnings, *passing, *([of_catalog] if of_catalog else [])]

    def set_warning(self, about: str, text: str | None) -> None:
        """Set the warning about something that may pass; None: it has passed."""
        kept = {name: one for name, one in self._passing_warnings.items() if name != about}
        self._passing_warnings = kept | ({about: text} if text else {})

    @property
    def thumbnails(self) -> Path:
        """Directory of cached thumbnails; they can be generated again."""
        return self.path / "thumbnails"

    def kept_thumbnail(self, size: int) -> None:
        """Note that a thumbnail of some bytes was cached: those of a directory all stay."""

    @cached_property
    def tokens(self) -> TokenCache:
        """Token cache of the rerankers, with a maximum size."""
        return TokenCache(self.path / "tokens")

    @property
    def collections(self) -> Collections:
        """Named collections of items."""
        return Collections(self.catalog, self.manifest.default_space)

    @property
    def saved_searches(self) -> SavedSearches:
        """Searches that were given names."""
        return SavedSearches(self.catalog)

    def hide(self, item_ids: Iterable[int]) -> int:
        """Hide items from searches and lists, with those of the same pages.

        The filter `hidden` finds them all the same. Returns how many were not hidden; raises
        NotFoundError for an unknown item, and hides nothing then.
        """
        with self.catalog.transaction() as transaction:
            return transaction.hide_items(tuple(item_ids))

    def unhide(self, item_ids: Iterable[int]) -> int:
        """Show hidden items again; returns how many were hidden."""
        with self.catalog.transaction() as transaction:
            return transaction.unhide_items(tuple(item_ids))

    def missing(self) -> LibraryGoneError | None:
        """Return an error if the directory does not hold the library any more that was opened."""
        found = _identity(self._file)
        if self._opened_file is None:  # it was created since
            self._opened_file = found
        if found is None:
            return LibraryGoneError(
                f"The library {self.path} is not there any more: it was moved or deleted, or its "
                "disk is away. Bring it back, or open it where it is now."
            )
        if found != self._opened_file:
            return LibraryGoneError(
                f"The library {self.path} was replaced by another one. Open it again: restart the "
                "service."
            )
        return None

    def share(self) -> None:
        """Let the group of the library's directory read and write all that is in it."""
        set_permissions(self.path, SHARED_FOLDER)

    @property
    def max_pixels(self) -> int | None:
        """The limit of pixels by which its pictures are read: the highest that a source was given.

        None: the default, which is higher, or no source was given one.
        """
        from retrieval.media.images import default_max_pixels

        with self.catalog.snapshot() as snapshot:
            chosen = [(options or {}) for options in snapshot.source_options().values()]
        limits = [limit for one in chosen if isinstance(limit := one.get("max_pixels"), int)]
        return max([*limits, default_max_pixels()]) if limits else None

    def space_ids(self) -> list[str]:
        """Ids of the spaces of this library, sorted."""
        names = (entry.parent.name for entry in self.path.glob("spaces/*/space.toml"))
        return sorted(filter(_is_space_id, names))

    def space(self, space_id: str | None = None) -> Space:
        """Return a space by its id, or that of added vectors by its name; None: the default one.

        Raises UsageError for an unknown one, DamagedLibraryError if its description cannot be read
        or does not match the name of its directory.
        """
        wanted = space_id or self.manifest.default_space
        file = self.path / "spaces" / wanted / "space.toml"
        if not _is_space_id(wanted) or not file.exists():
            if space_id:
                return self._space_of_name(space_id)
            raise DamagedLibraryError(f"{file} is missing. Restore it from a backup.")
        space = _parse(Space, file)
        if space.id != wanted:
            raise DamagedLibraryError(
                f"{file} describes the space {space.id}, not {wanted}: it was edited or damaged. "
                "Restore it from a backup."
            )
        return space

    def _space_of_name(self, name: str) -> Space:
        """Return the space of added vectors of a name; raises UsageError for an unknown one."""
        from retrieval.encoders.given import name_of_given

        for space in map(self.space, self.space_ids()):
            if space.is_given and name == name_of_given(space):
                return space
        raise self._unknown_space(name[:80])

    def add_space(self, space: Space) -> None:
        """Add a space; the default space stays the same."""
        directory = self.space_directory(space)
        make_directories(directory)
        _write_toml(directory / "space.toml", space)

    def set_default_space(self, space_id: str) -> None:
        """Make a space the one that searches use by default; raises UsageError for an unknown id.

        Services that run go on with the space that they were started with.
        """
        with self.writer():
            if space_id not in self.space_ids():
                raise self._unknown_space(space_id)
            manifest = replace(self.manifest, default_space=space_id)
            _write_toml(self.path / _MANIFEST, manifest)
        self.manifest = manifest

    @property
    def enrichment(self) -> dict[Task, str]:
        """The models that look for texts in what is indexed, by task, as they were named.

        As they are now: another process may have chosen others since the library was opened.
        """
        try:
            named = _read_manifest(self.path).enrichment
        except (LibraryError, NotFoundError):
            named = self.manifest.enrichment
        return {task: named[setting] for task, setting in SETTINGS.items() if setting in named}

    def set_enrichment(self, models: Mapping[Task, str | None]) -> None:
        """Remember which models look for texts from now on; None: none for this task any more.

        Texts that were found stay.
        """
        if not models:
            return
        with self.writer():
            manifest = _read_manifest(self.path)  # another process may have changed it
            named = dict(manifest.enrichment)
            for task, name in models.items():
                named.pop(SETTINGS[task], None)
                if name:
                    named[SETTINGS[task]] = name
            if named != manifest.enrichment:
                manifest = replace(manifest, enrichment=named)
                _write_toml(self.path / _MANIFEST, manifest)
        self.manifest = manifest

    def remove_space(self, space_id: str) -> None:
        """Remove a space: what the catalog says of it, then its embeddings and indices.

        A kill in between leaves files that the catalog does not name; removing the space again, or
        adding it again, takes them away. Raises UsageError for the default space and an unknown id.
        """
        from retrieval.indices.generations import discard_all

        directory = self.path / "spaces" / space_id
        with self.writer():
            if space_id == _read_manifest(self.path).default_space:
                raise UsageError(
                    f"{space_id} is the default space. Make another one the default first: "
                    "`mmsearch spaces default ID`."
                )
            if space_id not in {entry.name for entry in directory.parent.iterdir()}:
                raise self._unknown_space(space_id)
            with self.catalog.transaction() as transaction:
                transaction.remove_space(space_id)
            try:
                (directory / "space.toml").unlink(missing_ok=True)
                discard_all(directory)
                shutil.rmtree(directory)
            except OSError as error:
                raise LibraryError(
                    f"{space_id} is not searched any more, but its files in {directory} cannot be "
                    f"deleted: {error.strerror}. Run the same command again."
                ) from error

    def _unknown_space(self, space_id: str) -> UsageError:
        known = ", ".join(self.space_ids())
        return UsageError(f"{self.path} has no space {space_id!r}. It has: {known}.")

    def require_space(self, space: Space, *, among: Space | None = None) -> None:
        """Raise SpaceMismatchError unless the space is that of the library, or `among`."""
        expected = among or self.space()
        if space == expected:
            return
        differing = ", ".join(
            name for name, value in asdict(expected).items() if asdict(space)[name] != value
        )
        raise SpaceMismatchError(
            f"{self.path} has vectors of the encoder {expected.encoder!r} (space {expected.id}), "
            f"but the current encoder is {space.encoder!r} (space {space.id}); they differ in: "
            f"{differing}. Vectors of two spaces cannot be compared. Either use the library's own "
            f"encoder, or add a second space with `mmsearch index PATH... --encoder "
            f"{space.encoder} --space new`, or index into a new library (`--library NEW_DIR`)."
        )

    def embeddings(self, space: Space, modality: Modality) -> EmbeddingsFile:
        """Return the embeddings file of a space and modality."""
        return EmbeddingsFile(self.space_directory(space) / f"{modality}.f16", space.dimension)

    def space_directory(self, space: Space) -> Path:
        """Return the directory with embeddings and indices of a space."""
        return self.path / "spaces" / space.id

    def writer(self) -> AbstractContextManager[None]:
        """Hold the writer lock; the system releases it when the process ends.

        Raises LibraryLockedError at once if another process holds it.
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
        min_relevance: float | Literal["auto"] | None = None,
        group_by_file: bool = False,
        diversity: float = 0.0,
        cursor: str | None = None,
        parse: bool = False,
        literal: Iterable[str] = (),
        rerank: str = "auto",
        rerank_depth: int | None = None,
        sort: str = "relevance",
        spaces: Iterable[str] = (),
    ) -> "Answer":
        """Search by a text, an image, or both. The encoder is loaded at the first call.

        Args:
            text: Text to search for.
            image: Find items similar to this image: a path or a PIL image.
            minus: Find items dissimilar to these texts.
            like: Find items similar to the items with these ids.
            k: Maximum number of hits.
            modality: `image` finds images, frames and pages; `text` finds chunks of text; `any`
                finds both, where the text of a page finds the picture of the page.
            where: Filter of the items.
            mode: `vector` (by meaning), `text` (by words), `hybrid` (both) or `auto` (hybrid if
                some file has a telling word, else vector).
            min_relevance: Minimum relevance of hits, 0 to 1; `auto`: the best cut, by query.
                (default: 0; sorted by date or name: `auto`)
            group_by_file: Collapse by file: only the best frame, page or chunk of each file.
            diversity: Result diversity, 0 to 1 (maximal marginal relevance, 1 - lambda).
            cursor: `next_cursor` of an earlier answer to the same query.
            parse: Words of the text that say when, where or with which camera become filters; the
                answer lists them in `understood`.
            literal: Words that are not to become filters.
            rerank: Name of the reranker, `auto` or `none`.
            rerank_depth: Number of candidates to rerank. (default: the reranker's)
            sort: `relevance`, `date` (newest first), `date-asc` (oldest first) or `name` (by
                path); but for `relevance`, only the hits above the minimum relevance.
            spaces: Ids of the vector spaces to search; the answers of several are joined by rank
                fusion. (default: the library's default space)

        Returns:
            The answer, a sequence of hits, best first unless they are sorted by date or name.

        Raises:
            UsageError: Empty query; unknown modality, mode, order or reranker; cursor of another
                query.
            NotFoundError: Unknown item.
        """
        from retrieval.search.query import (
            JointQuery,
            Query,
            Reranking,
            parse_modalities,
            parse_mode,
            parse_sort,
            read_parts,
        )

        query = Query(
            read_parts(text, image, minus=minus, like=like),
            k=k,
            where=where,
            mode=parse_mode(mode),
            min_relevance=min_relevance,
            group_by_file=group_by_file,
            diversity=diversity,
            cursor=cursor,
            sort=parse_sort(sort),
            parse=parse,
            literal=tuple(literal),
        )
        joint = JointQuery(query, parse_modalities(modality), tuple(spaces))
        return self._engine.search(joint, Reranking(rerank, rerank_depth))

    def relocate(
        self,
        old: str | os.PathLike[str],
        new: str | os.PathLike[str],
        *,
        dry_run: bool = False,
        force: bool = False,
    ) -> Relocation:
        """Re-root everything that is known at or below a path, which was moved or renamed.

        Nothing is read or embedded again: items keep their ids.

        Args:
            old: Path as the library knows it; nothing needs to be there.
            new: Where it is now.
            dry_run: Only check and count.
            force: Also without any of the files there, or over other files known there.

        Returns:
            What was done, with the number of files that are at the new place.

        Raises:
            NotFoundError: The library knows nothing at `old`, or nothing is at `new`.
            UsageError: None of the files are at `new`, or other files are known there.
            LibraryLockedError: Another process is writing.
        """
        if dry_run:
            return plan_relocation(self.catalog, old, new, force=force)
        with self.writer():
            plan = plan_relocation(self.catalog, old, new, force=force)
            done = relocate(self.catalog, self.path, plan.old, plan.new)
        return replace(plan, relocated=done.files, hidden=done.hidden)

    def warn_of_lost_commits(self) -> None:
        """Let a warning say whether the catalog is older than it was."""
        if lost := self.catalog.dialect.lost_commits():
            location = self.catalog.dialect.location
            self._warnings.append(f"{lost_commits_message(location, lost)}.")

    def follow_moved_sources(self) -> None:
        """Re-root sources that were moved together with the library.

        Where the library cannot be written now, a warning says what to do.
        """
        if not find_moved_beside(self.catalog, self.path):
            return
        try:
            with self.writer():
                for old, new in find_moved_beside(self.catalog, self.path):
                    relocate(self.catalog, self.path, old, new)
        except LibraryError:
            for old, new in find_moved_beside(self.catalog, self.path):
                self._warnings.append(
                    f"{old} is at {new} now, and the library cannot be written to follow it. Run "
                    f"`mmsearch relocate {quote(old)} {quote(new)}` when it can."
                )

    def facets(
        self,
        text: str | None = None,
        *,
        modality: str = "image",
        where: "Filter | None" = None,
        min_relevance: float | Literal["auto"] = 0.0,
        limit: int = 100,
    ) -> "Facets":
        """Count items by year, month, folder, camera, kind and values of table columns.

        Args:
            text: Count the hits of this text. (default: all items)
            modality: `image` counts images, frames and pages; `text` counts chunks of text.
            where: Filter of the items.
            min_relevance: Minimum relevance of hits, 0 to 1, or `auto`; with 0, all items are hits.
            limit: Maximum number of values of each facet.

        Returns:
            The counts.

        Raises:
            UsageError: Empty text, unknown modality.
        """
        counted = _counted(text, modality, where, min_relevance)
        return self._engine.main.facets(limit=limit, **counted)

    def facet_values(
        self,
        facet: str,
        text: str | None = None,
        *,
        below: Sequence[str] = (),
        contains: str = "",
        modality: str = "image",
        where: "Filter | None" = None,
        min_relevance: float | Literal["auto"] = 0.0,
        limit: int = 100,
    ) -> "FacetValues":
        """List the values of one facet, level by level or by a part of their names.

        Args:
            facet: `years`, `months`, `folders`, `places`, `cameras`, `kinds`, or `columns.` and the
                name of a table column.
            text: As of `facets`.
            below: What the values are in: the year of months; the path of a folder; a country, then
                a region of it. (default: sources, countries)
            contains: Part of their names, not case-sensitive; all levels are looked through.
            modality: As of `facets`.
            where: As of `facets`.
            min_relevance: As of `facets`.
            limit: Maximum number of values.

        Returns:
            The values with their counts.

        Raises:
            UsageError: Unknown facet or modality, empty text.
        """
        from retrieval.search.facet_values import FacetQuestion

        asked = FacetQuestion(facet, tuple(below), contains, limit)
        counted = _counted(text, modality, where, min_relevance)
        return self._engine.main.facet_values(asked, **counted)

    @cached_property
    def _engine(self) -> "JointEngine":
        from retrieval.search.joint import JointEngine

        return JointEngine(self)

    def close(self) -> None:
        """Close the catalog's connections."""
        self.catalog.close()


def _require_embeddings(library: Library) -> None:
    """Raise UsageError where the catalog of a new library has vectors that are not there."""
    if not library.manifest.catalog or any(library.path.glob("spaces/*/*.f16")):
        return
    with library.catalog.snapshot() as snapshot:
        if snapshot.extents():
            raise UsageError(
                f"{library.manifest.catalog} is the catalog of a library whose vectors are not in "
                f"{library.path}. Drop its schema if that library is gone, or name another one: "
                "postgresql://HOST/DATABASE?schema=NAME."
            )


def _counted(
    text: str | None,
    modality: str,
    where: "Filter | None",
    min_relevance: float | Literal["auto"],
) -> dict[str, Any]:
    """What facets count, as arguments of the engine."""
    from retrieval.search.query import Query, TextPart, parse_modality

    wanted = parse_modality(modality)
    query = None
    if text is not None:
        query = Query((TextPart(text),), modality=wanted, where=where, min_relevance=min_relevance)
    return {"query": query, "where": where, "modality": wanted}


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one that has taken its place; None without it."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read_manifest(directory: Path) -> Manifest:
    file = directory / _MANIFEST
    if not file.exists():
        if any(directory.glob(f"{_CATALOG}*")):
            raise DamagedLibraryError(
                f"{file} is missing, but {directory} has a catalog: its creation was interrupted, "
                "or the file was deleted. `mmsearch index` with the same encoder completes it "
                "without overwriting anything."
            )
        raise NotFoundError(
            f"{directory} is not a library. Create one with `mmsearch index PATH...`, or choose "
            "another with `--library DIR`."
        )
    found = _load_toml(file).get("format_version")
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise LibraryError(
            f"{directory} was written by a newer version of mmsearch (format {found}; this "
            f"version supports {FORMAT_VERSION}). Upgrade with `pip install -U mmsearch`."
        )
    return _parse(Manifest, file)


def _load_toml(file: Path) -> dict[str, Any]:
    try:
        return read_toml(file)
    except (OSError, ValueError) as error:
        raise DamagedLibraryError(
            f"{file} cannot be read: {str(error)[:200]}. Restore it from a backup, or correct it "
            "by hand; nothing was overwritten."
        ) from error


def _parse(kind: type[_T], file: Path) -> _T:
    fields: dict[str, Any] = (_OPTIONAL if kind is Manifest else {}) | _load_toml(file)
    expected: dict[str, type] = kind.__annotations__
    wrong = [
        name
        for name in {*expected, *fields}
        if name not in expected
        or type(fields.get(name)) is not (get_origin(expected[name]) or expected[name])
    ]
    try:
        if not wrong:
            return kind(**fields)
    except ValueError:
        wrong = list(expected)
    raise DamagedLibraryError(
        f"{file} has missing, unknown or wrong fields: {', '.join(sorted(wrong))[:200]}. Restore "
        "it from a backup, or correct it by hand; nothing was overwritten."
    )


def _is_space_id(name: str) -> bool:
    """Return whether a name can be that of a space, and so no path."""
    return re.fullmatch(r"[\w-]{1,100}", name, re.ASCII) is not None


def _paths_of(directory: Path) -> Iterator[Path]:
    """List what belongs to a library down to the files of its spaces, for links among them."""
    for entry in directory.iterdir():
        if entry.name in _DIRECTORIES or entry.name.startswith((_MANIFEST, _CATALOG)):
            yield entry
    for pattern in ("spaces/*", "spaces/*/*", "tokens/*"):
        yield from directory.glob(pattern)


def _write_toml(file: Path, facts: Manifest | Space) -> None:
    # Versions that do not know an option can read the file where it is not used.
    written = {
        name: value
        for name, value in asdict(facts).items()
        if not isinstance(facts, Manifest) or _OPTIONAL.get(name) != value
    }
    write_atomically(file, tomli_w.dumps(written).encode(), durable=True)
