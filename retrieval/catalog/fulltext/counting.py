"""Words of a query over several shards: weighed by how many documents of all of them hold each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa

from retrieval.catalog.fulltext.search import DocumentCount, TextSearch
from retrieval.catalog.fulltext.words import Phrase, terms
from retrieval.catalog.schema import FILE_WORDS, ITEM_WORDS
from retrieval.media import Modality

_TABLES = (FILE_WORDS, ITEM_WORDS)

CountDocuments = Callable[[Sequence[DocumentCount]], Sequence[int]]
"""Counts documents of all shards together, in the order in which they are asked for."""


def count_documents(text: str, count: CountDocuments) -> Mapping[DocumentCount, int]:
    """Count the documents of all shards that a search for telling words must know of.

    Empty where the text has no words.
    """
    asked = terms(text)
    if not asked:
        return {}
    search = _CountingSearch(count)
    whole: list[DocumentCount] = [(table.name, (), None) for table in _TABLES]
    search.ask(whole)
    sizes = {name: search.known[name, (), None] for name, _, _ in whole}
    wanted = [term for term in asked if term.weight] or asked
    search.ask(
        [
            (name, (tuple(p for p in term.phrases if p.is_prefix == is_prefix),), size // 2 + 2)
            for term in wanted
            for is_prefix in {phrase.is_prefix for phrase in term.phrases}
            for name, size in sizes.items()
        ]
    )
    search.telling(asked)
    return search.known


class _CountingSearch(TextSearch):
    """A search that finds nothing, and asks for all that it counts."""

    def __init__(self, count: CountDocuments) -> None:
        nothing = cast("Any", None)
        super().__init__(nothing, nothing, "", Modality.IMAGE, None)
        self.__dict__["known"] = {}
        self.__dict__["_ask"] = count

    known: dict[DocumentCount, int]
    _ask: CountDocuments

    def ask(self, counts: Sequence[DocumentCount]) -> None:
        """Count several at once."""
        if counts:
            self.known.update(zip(counts, self._ask(counts), strict=True))

    def _count(
        self,
        table: sa.TableClause,
        all_of: Sequence[Sequence[Phrase]] = (),
        most: int | None = None,
    ) -> int:
        key = (table.name, tuple(map(tuple, all_of)), most)
        if key not in self.known:
            self.ask([key])
        return self.known[key]

    def _masks(self, *_: Any) -> dict[int, int]:
        return {}
