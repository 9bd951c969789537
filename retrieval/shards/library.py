"""A library in shards, as the engine and the service see it: one library that is only read."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from retrieval.catalog import Enrichment, Item
from retrieval.encoders.base import Space
from retrieval.errors import LibraryGoneError, UsageError
from retrieval.files import make_directories
from retrieval.filters import Filter
from retrieval.library import FORMAT_VERSION, Library, Manifest
from retrieval.media import Modality
from retrieval.recognition.base import Task
from retrieval.search.ordering import places_in_order
from retrieval.search.query import Sort
from retrieval.shards.callers import Call, Shards
from retrieval.shards.shard import spaces_of

_T = TypeVar("_T")

READ_ONLY = (
    "A library in shards is only read: it was made from another one. Change that one, and make "
    "the shards again."
)


class ShardedLibrary(Library):
    """All shards of a library. Its directory is a temporary one, with what the engine looks up."""

    def __init__(self, shards: Shards) -> None:
        described = shards.call([Call(shard, "describe") for shard in range(len(shards))])
        self.path = Path(tempfile.mkdtemp(prefix="mmsearch-shards-"))
        self.shards = shards
        self._spaces = spaces_of(described[0])
        self.manifest = Manifest(FORMAT_VERSION, described[0]["default_space"], "")
        sources = sorted({path for one in described for path in one["sources"]})
        self.catalog: Any = ShardedCatalog(shards, sources)
        limits = [one["max_pixels"] for one in described if one["max_pixels"] is not None]
        self._max_pixels = max(limits, default=None)
        self._warnings = list(dict.fromkeys(text for one in described for text in one["warnings"]))
        for space_id, calibration in described[0]["calibrations"].items():
            if calibration is not None:
                folder = self.path / "spaces" / space_id
                make_directories(folder)
                (folder / "relevance.json").write_text(calibration, encoding="utf-8")

    @property
    def warnings(self) -> list[str]:
        """What is wrong with any of the shards."""
        return self._warnings

    @property
    def max_pixels(self) -> int | None:
        """The limit of pixels by which pictures are read."""
        return self._max_pixels

    def missing(self) -> LibraryGoneError | None:
        """Return None: a shard that is away is told by what calls it."""
        return None

    def space_ids(self) -> list[str]:
        """Ids of the spaces, sorted."""
        return sorted(self._spaces)

    def space(self, space_id: str | None = None) -> Space:
        """Return a space by its id, or the default one; raises UsageError for an unknown id."""
        wanted = space_id or self.manifest.default_space
        if wanted not in self._spaces:
            raise UsageError(
                f"The shards have no space {wanted[:80]!r}. They have: "
                f"{', '.join(self.space_ids())}."
            )
        return self._spaces[wanted]

    def close(self) -> None:
        """Remove the temporary directory."""
        shutil.rmtree(self.path, ignore_errors=True)


class ShardedCatalog:
    """The catalogs of all shards, to read. sources: paths, which do not change in shards."""

    def __init__(self, shards: Shards, sources: Sequence[str]) -> None:
        self._shards = shards
        self._sources = sources

    @contextmanager
    def snapshot(self) -> Iterator["ShardedSnapshot"]:
        """Read as far as this is one instant of each shard by itself."""
        yield ShardedSnapshot(self._shards, self._sources)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Raise UsageError."""
        raise UsageError(READ_ONLY)
        yield


class ShardedSnapshot:
    """What is read of all shards, joined as if it were of one; as of `Snapshot`."""

    def __init__(self, shards: Shards, sources: Sequence[str]) -> None:
        self._shards = shards
        self._sources = sources

    def _read(self, method: str, *given: Any) -> list[Any]:
        return self._shards.call(
            [Call(shard, "read", (method, *given)) for shard in range(len(self._shards))]
        )

    def _list(self, method: str, options: dict[str, Any]) -> list[list[Any]]:
        calls = [Call(shard, "listed", (method, options)) for shard in range(len(self._shards))]
        return self._shards.call(calls)

    def _union(self, method: str, *given: Any) -> list[Any]:
        return sorted({value for values in self._read(method, *given) for value in values})

    def cameras(self) -> list[str]:
        """List camera names."""
        return self._union("cameras")

    def folders(self) -> list[str]:
        """List the folders that hold files."""
        return self._union("folders")

    def sources(self) -> list[str]:
        """List the paths of the sources."""
        return list(self._sources)

    def places(self) -> list[str]:
        """List places: names, a line each."""
        return self._union("places")

    def days(self) -> list[int]:
        """List the days of dates, since 1970."""
        return self._union("days")

    def is_southern(self) -> bool:
        """Return whether most of the shards are of the south."""
        told = self._read("is_southern")
        return bool(2 * sum(told) > len(told))

    def item(self, item_id: int) -> Item | None:
        """Return an item by its id; None if its file was removed or failed."""
        return self.items_of_ids([item_id]).get(item_id)

    def items_of_ids(self, item_ids: Sequence[int]) -> dict[int, Item]:
        """Return those of some items whose files are there, by id, in the order that is given."""
        found: dict[int, Item] = {}
        for items in self._read("items_of_ids", item_ids):
            found.update(items)
        return {item_id: found[item_id] for item_id in item_ids if item_id in found}

    def paths_of_items(self, item_ids: Sequence[int]) -> set[str]:
        """Return the files of some items."""
        return set().union(*self._read("paths_of_items", item_ids))

    def page_pictures(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Item]:
        """Return the pictures of pages of documents."""
        found: dict[tuple[str, int], Item] = {}
        for pictures in self._read("page_pictures", list(places)):
            found.update(pictures)
        return found

    def found_pictures(self, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Item]:
        """Return pictures in which texts were found."""
        found: dict[tuple[str, str], Item] = {}
        for pictures in self._read("found_pictures", list(places)):
            found.update(pictures)
        return found

    def enrichments(self, task: Task, keys: Iterable[str]) -> dict[str, Enrichment]:
        """Return what was found in pictures or files, by key."""
        found: dict[str, Enrichment] = {}
        for known in self._read("enrichments", task, sorted(keys)):
            found.update(known)
        return found

    def require_collections(self, where: Filter | None) -> None:
        """Raise NotFoundError for a collection of a filter that is not there."""
        if where is not None and where.collections:
            self._shards.call([Call(0, "read", ("require_collections", where))])

    def items(
        self, space_id: str, *, newest_first: bool = False, limit: int, **options: Any
    ) -> list[Item]:
        """List items by id."""
        options |= {"space_id": space_id, "newest_first": newest_first, "limit": limit}
        sign = -1 if newest_first else 1
        return _merged(self._list("items", options), limit, lambda item: sign * item.id)

    def items_by_date(
        self, space_id: str, *, oldest_first: bool = False, limit: int, **options: Any
    ) -> list[Item]:
        """List items by their local date, then id."""
        options |= {"space_id": space_id, "oldest_first": oldest_first, "limit": limit}
        sign = 1 if oldest_first else -1

        def key(item: Item) -> tuple[bool, int, float, int]:
            taken = item.taken_local
            if taken is None:
                return True, 0, 0.0, sign * item.id
            since = taken - taken.min
            return False, sign * (since.days * 86_400 + since.seconds), 0.0, sign * item.id

        return _merged(self._list("items_by_date", options), limit, key)

    def items_by_name(self, space_id: str, *, limit: int, **options: Any) -> list[Item]:
        """List items by path, then id."""
        options |= {"space_id": space_id, "limit": limit}
        listed = [item for items in self._list("items_by_name", options) for item in items]
        return [listed[place] for place in places_in_order(listed, Sort.NAME)[:limit]]

    def items_of_collection(
        self, space_id: str, collection_id: int, *, limit: int, **options: Any
    ) -> list[tuple[int, Item]]:
        """List items of a collection in the order in which they were added, with their places."""
        options |= {"space_id": space_id, "collection_id": collection_id, "limit": limit}
        placed = self._list("items_of_collection", options)
        return _merged(placed, limit, lambda one: one[0])

    def id_of_collection(self, name: str) -> int:
        """Return the id of a collection; raises NotFoundError for an unknown name."""
        [found] = self._shards.call([Call(0, "read", ("id_of_collection", name))])
        return int(found)

    def row_count(self, space_id: str, modality: Modality) -> int:
        """Count the rows of all shards."""
        counts = self._shards.call(
            [Call(n, "ask", (space_id, "state")) for n in range(len(self._shards))]
        )
        return sum(state.rows[modality] for state in counts)


def _merged(lists: Sequence[list[_T]], limit: int, key: Callable[[_T], Any]) -> list[_T]:
    return list(islice(merge(*lists, key=key), limit))
