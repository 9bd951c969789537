"""A library, as programs use it: open, index, add, search, read out."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.enrichment.run import EnrichmentSummary
from indexer.enrichment.tasks import DEFAULT_OCR, Recognizers, enrich_library, named_model
from indexer.media.video_query import read_query_frames
from indexer.pipeline import index_sources, remove_paths
from indexer.progress import Progress, Summary
from indexer.sources import absolute, trust_named
from indexer.spaces import index_spaces
from indexer.vectors.add import (
    BATCH_ROWS,
    GivenItem,
    add_vectors,
    annotate_files,
    clean_columns,
)
from indexer.vectors.spaces import choose_space, find_space
from indexer.vectors.stored import stored_items, stored_vectors
from mmsearch.encoder import Encoder
from mmsearch.inputs import (
    FilterLike,
    ImageLike,
    ItemLike,
    as_filter,
    as_image,
    as_item_id,
    as_list,
    require,
)
from mmsearch.progress import bar
from retrieval.catalog import Enrichment, Item
from retrieval.catalog.curation import Collections, SavedSearches
from retrieval.encoders.base import Space
from retrieval.encoders.deferred import deferred_encoder, encoder_of
from retrieval.encoders.given import given_space
from retrieval.encoders.registry import choose_encoder, load_encoder
from retrieval.errors import MMSearchError, NotFoundError, UsageError
from retrieval.indices.maintenance import build_index, needs_rebuild
from retrieval.lance.copies import open_import
from retrieval.lance.export import export_library
from retrieval.lance.library import as_table
from retrieval.lance.location import spelled
from retrieval.lance.table import LanceTable
from retrieval.library import Library as LibraryOnDisk
from retrieval.library import (
    create_library,
    library_exists,
    open_library,
    trust_named_catalog,
)
from retrieval.recognition.base import Task
from retrieval.search.answer import Answer, data_frame
from retrieval.search.facet_values import FacetValues
from retrieval.search.facets import Facets
from retrieval.search.joint import JointEngine
from retrieval.search.query import (
    ImagePart,
    ItemPart,
    JointQuery,
    Part,
    Query,
    Reranking,
    TextPart,
    VectorPart,
    parse_modalities,
    parse_modality,
    parse_mode,
    parse_sort,
)
from retrieval.spaces import SpaceStatus, list_spaces

if TYPE_CHECKING:
    import pandas as pd

PathLike = str | os.PathLike[str]

_MEANT = {
    **dict.fromkeys(("top_k", "topk", "limit", "n", "top", "num_results", "size", "count"), "k"),
    **dict.fromkeys(("filter", "filters", "query_filter", "collection", "kind"), "where"),
    **dict.fromkeys(("threshold", "min_score", "score_threshold"), "min_relevance"),
    **dict.fromkeys(("negative", "without", "exclude"), "minus"),
    **dict.fromkeys(("embedding", "query_vector"), "vector"),
    **dict.fromkeys(("offset", "page"), "cursor"),
    "space": "spaces",
}
"""What other tools call the options of a search."""


class SearchOptions(TypedDict, total=False):
    """The options of `Library.search` that hold for all of its queries."""

    video: PathLike | None
    minus: str | Iterable[str]
    like: ItemLike | Iterable[ItemLike]
    k: int
    modality: Literal["image", "text", "any"]
    where: FilterLike | None
    mode: Literal["auto", "vector", "text", "hybrid"]
    min_relevance: float | Literal["auto"] | None
    group_by_file: bool
    diversity: float
    cursor: str | None
    parse: bool
    literal: str | Iterable[str]
    rerank: str
    rerank_depth: int | None
    sort: Literal["relevance", "date", "date-asc", "name"]
    spaces: str | Iterable[str]


def open(path: PathLike | None = None) -> "Library":  # noqa: A001 - `mmsearch.open`
    """Open a library. path: its directory. (default: `MMSEARCH_LIBRARY`, else the user's own)

    A table of Lance is opened where it is: `lance:DIR`, `lance+s3://BUCKET/PREFIX`; `lance:DIR@3`
    is its version 3.

    Raises NotFoundError if it does not exist, LibraryError if it cannot be opened.
    """
    _require_path("path", path, optional=True)
    return Library(open_library(path, upgrade=True))


def create(
    path: PathLike,
    encoder: str = "auto",
    *,
    space: str | None = None,
    dimension: int | None = None,
    device: str = "auto",
    catalog: str | None = None,
) -> "Library":
    """Create a library, or open the one that is there.

    Args:
        path: Directory: new, empty, or that of a library.
        encoder: Name of the encoder of a new library, as for `Encoder`.
        space: Instead of an encoder, a name for vectors of your own, which you add.
        dimension: Number of values of these.
        device: Device of the encoder.
        catalog: URL of a database for the catalog of a new library, without a password:
            `postgresql://USER@HOST/DATABASE?schema=NAME`. (default: an SQLite file in it)

    Raises:
        UsageError: The directory has other files; `space` without `dimension`; unknown encoder.
        LibraryError: The library cannot be written.
    """
    _require_path("path", path)
    require("encoder", encoder, str)
    if (space is None) != (dimension is None):
        raise UsageError("Vectors of your own need both a name (space=) and a dimension=.")
    if library_exists(Path(path)):
        if catalog is not None:
            trust_named_catalog(Path(path), catalog)
        return open(path)
    if space is not None and dimension is not None:
        return Library(create_library(path, given_space(space, dimension), catalog=catalog))
    made = load_encoder(choose_encoder(encoder).name, device)
    return Library(create_library(path, made.space, catalog=catalog))


class Library:
    """A library of pictures and texts; `mmsearch.open` and `mmsearch.create` give one.

    It may be used from several threads; searches of one library wait for one another.

    >>> with mmsearch.create("my-library") as library:              # doctest: +SKIP
    ...     library.index("photos")
    ...     for hit in library.search("a dog in the snow"):
    ...         print(hit.path, hit.relevance)
    """

    def __init__(self, library: LibraryOnDisk) -> None:
        self._library = library

    @property
    def path(self) -> Path:
        """Directory of the library."""
        return self._library.path

    @property
    def location(self) -> str:
        """Where the library is, as `open` takes it: its directory, or `lance:...` of a table."""
        return self._library.location

    @property
    def version(self) -> int | None:
        """The version of the table that is searched; None for a library in a directory.

        Newer ones are taken up by themselves, unless one was opened by its number.
        """
        return as_table(self._library).version if self._library.is_table else None

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the library as a whole, and what to do."""
        return self._library.warnings

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of the default space."""
        return Encoder._of(self._engine.main)

    @property
    def spaces(self) -> list[SpaceStatus]:
        """The vector spaces, the default one first."""
        return list_spaces(self._library)

    def index(self, *paths: PathLike, show_progress: bool = False) -> Summary:
        """Index folders and files, which the library keeps as sources; none: all its sources.

        What is known already costs next to nothing. All spaces are brought up to date, and the
        indices that are due are built.

        Args:
            paths: Folders and files, or addresses of sources such as `s3://bucket/photos`, which
                this program may connect to from then on.
            show_progress: Show a progress bar.

        Returns:
            What was done for the default space: counts of files, such as `added` and `failed`.

        Raises:
            NotFoundError: A path does not exist.
            LibraryLockedError: Another process is writing.
        """
        for path in paths:
            _require_path("paths", path)
        trust_named(paths)
        others = [self._library.space(one.id) for one in self.spaces]
        encoders = [deferred_encoder(self._library, one) for one in others if not one.is_given]
        if not encoders:
            raise UsageError(
                f"{self.path} has vectors of your own only, and no encoder for files. Add these "
                "with `library.add(vectors=...)`, or make a library with an encoder."
            )
        with bar("Indexing", show_progress) as show:

            def tell(event: Progress) -> None:
                show(event.done, event.total)

            runs = list(
                index_spaces(
                    encoders,
                    lambda encoder: index_sources(self._library, encoder, paths, on_progress=tell),
                )
            )
        if not runs[0].summary.interrupted and self._library.enrichment:
            self.find_texts(show_progress=show_progress)
        for run in runs:
            if run.problem is None:
                self._build_due(run.encoder.space)
        return runs[0].summary

    def find_texts(
        self,
        *,
        ocr: bool | None = None,
        transcribe: PathLike | Literal[False] | None = None,
        captions: PathLike | Literal[False] | None = None,
        renew: bool = False,
        show_progress: bool = False,
    ) -> list[EnrichmentSummary]:
        """Find text in pictures and speech with models, so that searches find it.

        Which models look is remembered: later calls of `index` go on with them. What was looked at
        already costs next to nothing.

        Args:
            ocr: Find the text in pictures, video frames and scanned pages. (default: as before)
            transcribe: Name or folder of a Whisper model that writes down speech; False: no
                more. (default: as before)
            captions: Name or folder of an image-to-text model that writes captions; False: no
                more. (default: as before)
            renew: Look again at what another model, or an earlier version of it, has looked at.
            show_progress: Show a progress bar.

        Returns:
            What was done, by task; `problem` says why a model could not be loaded.

        Raises:
            UnreadableFileError: A package that a chosen model needs is not installed.
            UsageError: A model that there is not.
            LibraryLockedError: Another process is writing.
        """
        models: dict[Task, str | None] = {}
        if ocr is not None:
            models[Task.OCR] = DEFAULT_OCR if ocr else None
        for task, name in ((Task.SPEECH, transcribe), (Task.CAPTION, captions)):
            if name is not None:
                models[task] = named_model(os.fspath(name)) if name else None
        recognizers = Recognizers()
        for task, chosen in models.items():
            if chosen:
                recognizers.get(task, chosen)
        self._library.set_enrichment(models)
        spaces = [self._library.space(one.id) for one in self.spaces]
        encoders = [deferred_encoder(self._library, one) for one in spaces if not one.is_given]
        with bar("Finding texts", show_progress) as show:
            return enrich_library(
                self._library,
                encoders,
                recognizers,
                renew=tuple(Task) if renew else (),
                on_progress=lambda _, event: show(event.done, event.total),
            )

    def texts(self, item_id: int) -> list[Enrichment]:
        """List what models found in the picture of an item, and in the speech of its file.

        Each has `task` (`ocr`, `speech` or `caption`), `model`, `text` and `segments`, which have
        `text`, `confidence`, `box`, `start_s` and `end_s`. Raises NotFoundError for an unknown
        item.
        """
        item = self.item(item_id)
        with self._library.catalog.snapshot() as snapshot:
            return snapshot.enrichments_of(item)

    @overload
    def add(
        self,
        paths: PathLike | Iterable[PathLike],
        *,
        payload: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
    ) -> list[int | None]: ...

    @overload
    def add(
        self,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        vectors: ArrayLike,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str | None] | None = None,
        payload: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        space: str | None = None,
        modality: Literal["image", "text"] = "image",
    ) -> list[int | None]: ...

    def add(
        self,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        vectors: ArrayLike | None = None,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str | None] | None = None,
        payload: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        space: str | None = None,
        modality: Literal["image", "text"] = "image",
    ) -> list[int | None]:
        """Add files with payload, or vectors of your own with their items.

        Payload is found by its words, filtered by (`where={"columns": {"price": {"max": 10}}}`)
        and stays through later runs of `index`. What is added again is replaced.

        Args:
            paths: Files. With vectors: of which files these are; those that are not there only
                name their items.
            vectors: (n, d) numbers; they are scaled to unit length. Those that are not finite, or
                zero, are left out.
            ids: Of vectors without paths: what names their items. (default: numbers)
            texts: Texts of the items of vectors.
            payload: For each item a dict of texts, numbers, booleans, dates and lists.
            space: Of vectors: a name for a space of your own, the name of an encoder that made
                them, such as `starter`, or the id of a space. (default: that of the library)
            modality: Of vectors: `image` or `text`.

        Returns:
            The ids of the items, in their order; None for those that were left out. Of files: the
            first item of each.

        Raises:
            TypeError: A value is of a type that cannot be kept.
            UsageError: Arguments that do not fit together; vectors of another dimension.
            LibraryLockedError: Another process is writing.
        """
        if vectors is None:
            if paths is None:
                raise TypeError("add() needs paths or vectors=.")
            if any(one is not None for one in (ids, texts, space)):
                raise UsageError("ids=, texts= and space= go with vectors=.")
            return self._add_files(_paths(paths), payload)
        array = np.asarray(vectors)
        if array.ndim == 1 and array.dtype.kind in "fiu":
            array = array[np.newaxis]
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise TypeError(
                f"vectors= is an array of numbers, (n, d); not {array.dtype}, {array.shape}."
            )
        count = len(array)
        named = None if paths is None else _paths(paths)
        given_ids = _parallel("ids", ids, count)
        if named is None and ids is None:
            given_ids = list(map(str, range(count)))
        columns = _payload(payload, count)
        chosen = choose_space(self._library, space, array.shape[1])
        of_paths = _parallel("paths", named, count)
        of_texts = _parallel("texts", texts, count)
        items = [
            GivenItem(
                "" if given_ids[n] is None else str(given_ids[n]),
                None if of_paths[n] is None else os.fspath(of_paths[n]),
                parse_modality(modality),
                text=of_texts[n],
                columns=columns[n],
            )
            for n in range(count)
        ]
        batches = (
            (items[start : start + BATCH_ROWS], array[start : start + BATCH_ROWS])
            for start in range(0, count, BATCH_ROWS)
        )
        added = add_vectors(self._library, chosen, batches)
        self._build_due(chosen)
        return added.item_ids

    def remove(self, *what: PathLike | ItemLike) -> int:
        """Forget folders, files and items; files stay on the disk.

        Returns how many files were forgotten. Of an item, all of its file is.

        Raises NotFoundError, and removes nothing, where the library knows nothing of one.
        """
        paths = [
            one if isinstance(one, str | os.PathLike) else self.item(as_item_id(one)).path
            for one in what
        ]
        return remove_paths(self._library, paths)

    @overload
    def search(
        self,
        query: str | ImageLike | None = None,
        *,
        image: ImageLike | None = None,
        vector: ArrayLike | None = None,
        **options: Unpack[SearchOptions],
    ) -> Answer: ...

    @overload
    def search(
        self,
        query: list[Any] | tuple[Any, ...],
        *,
        image: ImageLike | list[Any] | tuple[Any, ...] | None = None,
        vector: ArrayLike | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Answer]: ...

    @overload
    def search(
        self,
        query: None = None,
        *,
        image: list[Any] | tuple[Any, ...],
        vector: ArrayLike | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Answer]: ...

    def search(
        self,
        query: str | ImageLike | list[Any] | tuple[Any, ...] | None = None,
        *,
        image: ImageLike | list[Any] | tuple[Any, ...] | None = None,
        vector: ArrayLike | None = None,
        video: PathLike | None = None,
        minus: str | Iterable[str] = (),
        like: ItemLike | Iterable[ItemLike] = (),
        k: int = 10,
        modality: Literal["image", "text", "any"] = "image",
        where: FilterLike | None = None,
        mode: Literal["auto", "vector", "text", "hybrid"] = "auto",
        min_relevance: float | Literal["auto"] | None = None,
        group_by_file: bool = False,
        diversity: float = 0.0,
        cursor: str | None = None,
        parse: bool = False,
        literal: str | Iterable[str] = (),
        rerank: str = "auto",
        rerank_depth: int | None = None,
        sort: Literal["relevance", "date", "date-asc", "name"] = "relevance",
        spaces: str | Iterable[str] = (),
        **unknown: Any,
    ) -> Answer | list[Answer]:
        """Search by texts, images, vectors and items; several queries are answered together.

        A list of queries gives a list of answers, in less time than one by one. What is not a
        list belongs to each of them. The encoder is loaded at the first call.

        Args:
            query: Text to search for; or an image, as `image` but for paths as texts.
            image: Find items similar to this image: a path, bytes, a PIL image, or an array of
                uint8, (H, W, 3).
            vector: Find items near to a vector of the searched space, (d,); or (n, d), to several.
            video: Find items similar to the video of this path; with `group_by_file` each once.
            minus: Find items dissimilar to these texts.
            like: Find items similar to these: ids, items or hits.
            k: Maximum number of hits.
            modality: `image` finds images, frames and pages; `text` finds chunks of text; `any`
                finds both.
            where: Filter of the items, or a dict, as in `POST /v1/search`.
            mode: `vector` (by meaning), `text` (by words), `hybrid` (both) or `auto`.
            min_relevance: Minimum relevance of hits, 0 to 1; `auto`: the best cut, by query.
                (default: 0; by date or name: `auto`)
            group_by_file: Collapse by file: only the best item of each file.
            diversity: Result diversity, 0 to 1.
            cursor: `next_cursor` of an earlier answer to the same query.
            parse: Words of the text that say when, where or with which camera become filters.
            literal: Words that are not to become filters.
            rerank: Name of the reranker, `auto` or `none`.
            rerank_depth: Number of candidates to rerank. (default: the reranker's)
            sort: `relevance`, `date` (newest first), `date-asc` or `name` (by path).
            spaces: Ids of the vector spaces to search, or names of your own. (default: the
                library's default space)
            unknown: Raises TypeError, which names the right one.

        Returns:
            The answer, a sequence of hits; for several queries a list of answers.

        Raises:
            TypeError: A value of a wrong type.
            UsageError: Empty query, unknown option value, unreadable image or video.
            NotFoundError: Unknown item.
        """
        _refuse_unknown(unknown)
        require("k", k, int)
        require("min_relevance", min_relevance, float, int, str, type(None))
        require("diversity", diversity, float, int)
        require("rerank", rerank, str)
        require("rerank_depth", rerank_depth, int, type(None))
        require("cursor", cursor, str, type(None))
        for name, value in (("modality", modality), ("mode", mode), ("sort", sort)):
            require(name, value, str)
        parts, is_many = _queries(query, image, vector)
        common: list[Part] = _frames(video) if video is not None else []
        common += [TextPart(text, -1.0) for text in as_list("minus", minus, str)]
        common += [ItemPart(as_item_id(one)) for one in _items(like)]
        filters = as_filter(where)
        reranking = Reranking(rerank, rerank_depth)
        space_ids = tuple(self._space_id(one) for one in as_list("spaces", spaces, str))
        requests = [
            (
                JointQuery(
                    Query(
                        (*own, *common),
                        k=k,
                        where=filters,
                        mode=parse_mode(mode),
                        min_relevance=min_relevance,
                        group_by_file=group_by_file,
                        diversity=diversity,
                        cursor=cursor,
                        sort=parse_sort(sort),
                        parse=parse,
                        literal=tuple(as_list("literal", literal, str)),
                    ),
                    parse_modalities(modality),
                    space_ids,
                ),
                reranking,
            )
            for own in parts
        ]
        answers = []
        for answer in self._engine.search_many(requests):
            if isinstance(answer, MMSearchError):
                raise answer
            answers.append(answer)
        return answers if is_many else answers[0]

    def facets(
        self,
        text: str | None = None,
        *,
        modality: Literal["image", "text"] = "image",
        where: FilterLike | None = None,
        min_relevance: float | Literal["auto"] = 0.0,
        limit: int = 100,
    ) -> Facets:
        """Count items by year, month, folder, place, camera, kind and values of table columns.

        Args:
            text: Count the hits of this text. (default: all items)
            modality: `image` counts images, frames and pages; `text` counts chunks of text.
            where: Filter of the items, or a dict.
            min_relevance: Minimum relevance of hits, 0 to 1, or `auto`; with 0, all items are hits.
            limit: Maximum number of values of each facet.
        """
        require("text", text, str, type(None))
        require("limit", limit, int)
        query = None
        if text is not None:
            query = Query(
                (TextPart(text),),
                modality=parse_modality(modality),
                where=as_filter(where),
                min_relevance=min_relevance,
            )
        return self._engine.main.facets(
            query, where=as_filter(where), modality=parse_modality(modality), limit=limit
        )

    def facet_values(
        self,
        facet: str,
        text: str | None = None,
        *,
        below: Sequence[str] = (),
        contains: str = "",
        modality: Literal["image", "text"] = "image",
        where: FilterLike | None = None,
        min_relevance: float | Literal["auto"] = 0.0,
        limit: int = 100,
    ) -> FacetValues:
        """Count the values of one facet, below a value of it or with a part of their names.

        Args:
            facet: `years`, `months`, `folders`, `places`, `cameras`, `kinds`, `collections`, or
                `columns.NAME` of a table column.
            text: Count the hits of this text. (default: all items)
            below: What the values are in: the year of months; the path of a folder; a country, then
                a region of it. (default: sources, countries)
            contains: Part of their names, not case-sensitive; all levels are looked through.
            modality: As of `facets`.
            where: As of `facets`.
            min_relevance: As of `facets`.
            limit: Maximum number of values.
        """
        require("text", text, str, type(None))
        require("limit", limit, int)
        return self._library.facet_values(
            facet,
            text,
            below=tuple(as_list("below", below, str)),
            contains=contains,
            modality=modality,
            where=as_filter(where),
            min_relevance=min_relevance,
            limit=limit,
        )

    @property
    def collections(self) -> Collections:
        """Named collections of items."""
        return self._library.collections

    @property
    def saved_searches(self) -> SavedSearches:
        """Searches that were given names."""
        return self._library.saved_searches

    def hide(self, items: ItemLike | Iterable[ItemLike]) -> int:
        """Hide items from searches and lists, with those of the same pages.

        The filter `hidden` finds them all the same. Returns how many were not hidden; raises
        NotFoundError for an unknown item, and hides nothing then.
        """
        return self._library.hide([as_item_id(one) for one in _items(items)])

    def unhide(self, items: ItemLike | Iterable[ItemLike]) -> int:
        """Show hidden items again; returns how many were hidden."""
        return self._library.unhide([as_item_id(one) for one in _items(items)])

    def item(self, item_id: int) -> Item:
        """Return an item by its id; raises NotFoundError for an unknown one."""
        number = as_item_id(item_id)
        with self._library.catalog.snapshot() as snapshot:
            found = snapshot.item(number)
        if found is None:
            raise NotFoundError(f"There is no item {number}: its file was removed or changed.")
        return found

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of the default space, as `items`."""
        return self.items()

    def items(
        self,
        *,
        where: FilterLike | None = None,
        modality: Literal["image", "text"] | None = None,
        space: str | None = None,
    ) -> Iterator[Item]:
        """Yield items by their ids; a few thousand are held at a time.

        Args:
            where: Filter of the items, or a dict.
            modality: `image` or `text`. (default: both)
            space: Id or own name of the space that items have a vector in. (default: the
                library's)
        """
        wanted = parse_modality(modality) if modality is not None else None
        pages = stored_items(
            self._library, self._space(space), where=as_filter(where), modality=wanted
        )
        return (item for page in pages for item in page)

    def vectors(
        self,
        *,
        where: FilterLike | None = None,
        modality: Literal["image", "text"] | None = None,
        space: str | None = None,
        batch_size: int = BATCH_ROWS,
    ) -> Iterator[tuple[list[Item], NDArray[np.float32]]]:
        """Yield items with their unit vectors, (n, d) float32, a batch at a time, by their ids.

        Args:
            where: Filter of the items, or a dict.
            modality: `image` or `text`. (default: both)
            space: Id or own name of the space of the vectors. (default: the library's)
            batch_size: Maximum number of items of a batch.
        """
        require("batch_size", batch_size, int)
        wanted = parse_modality(modality) if modality is not None else None
        batches = stored_vectors(
            self._library,
            self._space(space),
            where=as_filter(where),
            modality=wanted,
            batch_rows=batch_size,
        )
        return ((list(batch.items), batch.vectors) for batch in batches)

    def to_pandas(
        self,
        *,
        where: FilterLike | None = None,
        modality: Literal["image", "text"] | None = None,
        space: str | None = None,
        vectors: bool = False,
    ) -> "pd.DataFrame":
        """Return items as a pandas DataFrame, by their ids.

        `columns` has payload and table columns, as dicts.

        Args:
            where: Filter of the items, or a dict.
            modality: `image` or `text`. (default: both)
            space: Id or own name of a space. (default: the library's)
            vectors: Add the column `vector`, of (d,) float32 arrays.

        Raises:
            UsageError: pandas is not installed.
        """
        wanted = parse_modality(modality) if modality is not None else None
        records: list[dict[str, Any]] = []
        for batch in stored_vectors(
            self._library, self._space(space), where=as_filter(where), modality=wanted
        ):
            added = batch.records()
            if vectors:
                for record, vector in zip(added, batch.vectors, strict=True):
                    record["vector"] = vector
            records += added
        return data_frame(records)

    def export_table(self, table: str, *, space: str | None = None) -> int:
        """Bring a Lance table in step with the library, as `mmsearch export --lance` does.

        Args:
            table: `lance:DIR`, `lance+s3://BUCKET/PREFIX`, or the directory or URI alone.
            space: Id or own name of the space of the vectors. (default: the library's)

        Returns:
            The version of the table.

        Raises:
            SpaceMismatchError: The table has vectors of another space.
            UsageError: There is something else, or packages are missing.
            LibraryError: The store cannot be written.
        """
        _require_path("table", table)
        done = export_library(self._library, spelled(table), self._space(space))
        return done.version

    def import_table(self, table: str, *, new_space: bool = False) -> int:
        """Take a Lance table into the library, or what has changed in it, as `mmsearch import`.

        Args:
            table: As of `export_table`.
            new_space: Add the space of the table, if the library lacks it.

        Returns:
            The version of the table that the library has now.

        Raises:
            NotFoundError: There is no table.
            SpaceMismatchError: The library has no such space.
            LibraryLockedError: Another process is writing.
        """
        _require_path("table", table)
        opened = LanceTable.open(spelled(table))
        return open_import(opened, self._library, new_space=new_space).update().version

    def close(self) -> None:
        """Close the library."""
        self._library.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        space = self._library.space()
        with self._library.catalog.snapshot() as snapshot:
            counts = snapshot.counts(space.id).items
        told = ", ".join(f"{count:,} {name}s" for name, count in counts.items() if count)
        return f"<mmsearch.Library {self.location}: {told or 'empty'}, {space.encoder}>"

    @cached_property
    def _engine(self) -> JointEngine:
        return JointEngine(self._library)

    def _space_id(self, name: str) -> str:
        """Return the id of a space by it or by its own name; an unknown name as it is."""
        try:
            return find_space(self._library, name).id
        except UsageError:
            return name

    def _space(self, name: str | None) -> Space:
        require("space", name, str, type(None))
        return find_space(self._library, name)

    def _build_due(self, space: Space) -> None:
        for modality in needs_rebuild(self._library, space):
            build_index(self._library, modality, lambda: encoder_of(self._library, space), space)

    def _add_files(
        self,
        paths: Sequence[PathLike],
        payload: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None,
    ) -> list[int | None]:
        columns = _payload(payload, len(paths))
        for path in paths:
            if Path(path).is_dir():
                raise UsageError(f"{path} is a folder: index it with `library.index({path!r})`.")
        self.index(*paths)
        spelled = [absolute(path) for path in paths]
        said = {path: of_path for path, of_path in zip(spelled, columns, strict=True) if of_path}
        if said:
            annotate_files(self._library, said)
        with self._library.catalog.snapshot() as snapshot:
            found = snapshot.items_in(sorted(set(spelled)))
        first: dict[str, int] = {}
        for (path, _, _), item_id in found.items():
            first[path] = min(item_id, first.get(path, item_id))
        return [first.get(path) for path in spelled]


def _queries(
    query: Any, image: Any, vector: ArrayLike | None
) -> tuple[list[tuple[Part, ...]], bool]:
    """Return the parts of each query, and whether there may be several."""
    columns: list[tuple[list[Part], bool]] = []
    if query is not None:
        many = _is_list(query)
        columns.append(([_part(one) for one in (query if many else [query])], many))
    if image is not None:
        many = _is_list(image)
        columns.append(([ImagePart(as_image(one)) for one in (image if many else [image])], many))
    if vector is not None:
        array = np.asarray(vector)
        if array.dtype.kind not in "fiu" or array.ndim not in {1, 2}:
            raise TypeError(
                "vector= is an array of numbers, (d,), or (n, d) for several queries; not "
                f"{array.dtype}, {array.shape}."
            )
        many = array.ndim == 2
        columns.append(([VectorPart(one) for one in (array if many else [array])], many))
    counts = {len(values) for values, many in columns if many}
    if len(counts) > 1:
        raise UsageError(
            f"The lists of queries have different lengths: {', '.join(map(str, sorted(counts)))}."
        )
    count = counts.pop() if counts else 1
    rows = [values if many else values * count for values, many in columns]
    return [tuple(of_row[n] for of_row in rows) for n in range(count)], any(m for _, m in columns)


def _frames(video: PathLike) -> list[Part]:
    _require_path("video", video)
    frames = read_query_frames(video)
    return [ImagePart(frame, 1 / len(frames)) for frame in frames]


def _part(one: Any) -> Part:
    if isinstance(one, str):
        return TextPart(one)
    try:
        return ImagePart(as_image(one))
    except TypeError as error:
        raise TypeError(f"A query is a text (str) or an image. {error}") from None


def _is_list(value: Any) -> bool:
    return value.ndim == 4 if isinstance(value, np.ndarray) else isinstance(value, list | tuple)


def _items(like: object) -> list[Any]:
    if isinstance(like, Iterable) and not isinstance(like, str | bytes | Mapping):
        return list(like)
    return [like]


def _paths(paths: PathLike | Iterable[PathLike]) -> list[PathLike]:
    if isinstance(paths, str | os.PathLike):
        return [paths]
    if not isinstance(paths, Iterable):
        raise TypeError(f"paths= is a path or a list of paths, not {type(paths).__name__}.")
    found = list(paths)
    for path in found:
        _require_path("paths", path)
    return found


def _require_path(name: str, path: object, *, optional: bool = False) -> None:
    if not isinstance(path, str | os.PathLike) and not (optional and path is None):
        raise TypeError(f"{name}= is a path (str or pathlib.Path), not {type(path).__name__}.")


def _parallel(name: str, values: Iterable[Any] | None, count: int) -> list[Any]:
    """Return as many values as there are vectors; None for each if there are none."""
    if values is None:
        return [None] * count
    if isinstance(values, str | bytes):
        raise TypeError(f"{name}= is a list with one value for each vector, not a text.")
    found = list(values)
    if len(found) != count:
        raise UsageError(f"{name}= has {len(found):,} values for {count:,} vectors.")
    return found


def _payload(payload: object, count: int) -> list[dict[str, Any] | None]:
    if payload is None:
        return [None] * count
    values = [payload] if isinstance(payload, Mapping) else payload
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"payload= is a dict for each item, not {type(payload).__name__}.")
    found = list(values)
    if len(found) != count:
        raise UsageError(f"payload= has {len(found):,} dicts for {count:,} items.")
    for one in found:
        if one is not None and not isinstance(one, Mapping):
            raise TypeError(f"payload= is a dict for each item; it has a {type(one).__name__}.")
    return [clean_columns(one) if one else None for one in found]


def _refuse_unknown(unknown: Mapping[str, Any]) -> None:
    for name in unknown:
        meant = _MEANT.get(name)
        hint = f" Use {meant}=." if meant else ""
        raise TypeError(f"search() has no option {name!r}.{hint}")
