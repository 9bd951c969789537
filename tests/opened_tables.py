"""Libraries in directories and the same as tables of Lance, for tests that compare both."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retrieval.catalog import Item
from retrieval.encoders.base import Encoder
from retrieval.filters import Filter
from retrieval.library import Library, open_library
from tests.rich_library import rich_library

Name = tuple[str, str, str]
"""Of an item: its path, modality and part."""

FILTERS = [
    None,
    Filter(kind=("image",)),
    Filter(path="**/dogs/*"),
    Filter(camera="CANON"),
    Filter(columns={"stars": {"min": 2}}),
    Filter(none_of=Filter(path="*.jpg")),
    Filter(hidden="any"),
    Filter(collection="holidays"),
]


@dataclass
class Twins:
    """A library and the table that it was exported to."""

    library: Library
    table: Library

    def follow(self) -> None:
        """Bring the table in step with the library."""
        from retrieval.lance.export import export_library
        from retrieval.lance.library import as_table
        from retrieval.lance.table import LanceTable

        location = as_table(self.table).location
        export_library(self.library, location)
        LanceTable.open(location).create_indices()
        as_table(self.table).refresh()

    @property
    def both(self) -> tuple[Library, Library]:
        return self.library, self.table

    def id_in_table(self, item: Item) -> int:
        """Return the id that an item of the library has in the table."""
        with self.table.catalog.snapshot() as snapshot:
            return snapshot.items_in([item.path])[item.path, item.modality, item.part]


def export_twin(library: Library, location: str) -> Twins:
    """Export a library to a new table, and open it."""
    from retrieval.lance.export import export_library
    from retrieval.lance.table import LanceTable

    export_library(library, location)
    LanceTable.open(location).create_indices()
    return Twins(library, open_library(location))


def rich_twins(folder: Path, encoder: Encoder, location: str | None = None) -> Twins:
    """Make a library with something of everything, and the same as a table."""
    library = rich_library(folder / "photos", folder / "library", encoder)
    return export_twin(library, location or f"lance:{folder}/table")


def name_of(item: Item) -> Name:
    return item.path, str(item.modality), item.part


def names_of(items: Iterable[Item]) -> list[Name]:
    return [name_of(item) for item in items]
