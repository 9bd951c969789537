"""Collections, hidden items and saved searches of a library.

They belong to the library, not to one of its spaces. None of this waits for a run of the indexer:
each call is a short transaction of the catalog.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from retrieval.catalog.database import Catalog
from retrieval.catalog.records import Collection, Item, SavedSearch
from retrieval.errors import NotFoundError
from retrieval.filters import Filter

_AT_ONCE = 1000


class Collections:
    """Named collections of the items of a library, in the order in which items were added.

    Names are compared without regard to case. Every method that takes the name of a collection
    raises NotFoundError for an unknown one; those that write raise LibraryError where the library
    may only be read, and LibraryLockedError where another process writes for too long.
    """

    def __init__(self, catalog: Catalog, space_id: str) -> None:
        self._catalog = catalog
        self._space_id = space_id

    def all(self) -> list[Collection]:
        """List the collections by name, with the number of items that each shows."""
        with self._catalog.snapshot() as snapshot:
            return snapshot.collections()

    def get(self, name: str) -> Collection:
        """Return a collection by its name."""
        with self._catalog.snapshot() as snapshot:
            found = snapshot.id_of_collection(name)
            return next(one for one in snapshot.collections() if one.id == found)

    def items(self, name: str, *, where: Filter | None = None) -> Iterator[Item]:
        """Yield the items of a collection, without hidden ones unless the filter asks for them."""
        after = 0
        while True:
            with self._catalog.snapshot() as snapshot:
                found = snapshot.items_of_collection(
                    self._space_id,
                    snapshot.id_of_collection(name),
                    where=where,
                    after=after,
                    limit=_AT_ONCE,
                )
            for after, item in found:  # noqa: B007 - the last place is where the next page begins
                yield item
            if len(found) < _AT_ONCE:
                return

    def create(self, name: str) -> Collection:
        """Create an empty collection; raises UsageError for a name that is taken or no name."""
        with self._catalog.transaction() as transaction:
            transaction.create_collection(name)
        return self.get(name)

    def rename(self, name: str, new_name: str) -> Collection:
        """Give a collection another name; raises UsageError for one that is taken."""
        with self._catalog.transaction() as transaction:
            transaction.rename_collection(transaction.id_of_collection(name), new_name)
        return self.get(new_name)

    def delete(self, name: str) -> None:
        """Delete a collection; its items stay in the library."""
        with self._catalog.transaction() as transaction:
            transaction.delete_collection(transaction.id_of_collection(name))

    def add(self, name: str, item_ids: Iterable[int]) -> int:
        """Add items at the end of a collection; returns how many were not in it.

        Raises NotFoundError for an unknown item; nothing is added then.
        """
        with self._catalog.transaction() as transaction:
            return transaction.collect(transaction.id_of_collection(name), tuple(item_ids))

    def remove(self, name: str, item_ids: Iterable[int]) -> int:
        """Take items out of a collection; returns how many were in it."""
        with self._catalog.transaction() as transaction:
            return transaction.uncollect(transaction.id_of_collection(name), tuple(item_ids))


class SavedSearches:
    """Searches of a library that were given names, which are compared without regard to case."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def all(self) -> list[SavedSearch]:
        """List the saved searches by name."""
        with self._catalog.snapshot() as snapshot:
            return snapshot.saved_searches()

    def save(self, name: str, query: dict[str, Any]) -> SavedSearch:
        """Save a search under a name, in place of one that has it.

        query: anything that JSON can say; the page saves `{"address": "q=dog&kind=video"}`.
        """
        with self._catalog.transaction() as transaction:
            return transaction.save_search(name, query)

    def delete(self, saved_id: int) -> None:
        """Delete a saved search by its id; raises NotFoundError if there is none."""
        with self._catalog.transaction() as transaction:
            if not transaction.delete_saved_search(saved_id):
                raise NotFoundError(f"There is no saved search {saved_id}.")
