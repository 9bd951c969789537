"""The spaces of a library: what each holds, and what it lacks."""

from collections.abc import Mapping
from dataclasses import dataclass

from retrieval.encoders.modalities import kinds_of, modalities_of
from retrieval.library import Library
from retrieval.media import Modality


@dataclass(frozen=True)
class SpaceStatus:
    """One space of a library.

    id: names it everywhere. items: those that a search in it can find, by modality. files_behind:
    indexed files that were not embedded in it as they are now.
    """

    id: str
    encoder: str
    dimension: int
    is_default: bool
    items: Mapping[Modality, int]
    files_behind: int

    @property
    def is_complete(self) -> bool:
        """Return whether it has every indexed file."""
        return self.files_behind == 0


def list_spaces(library: Library) -> list[SpaceStatus]:
    """Describe the spaces of a library, the default one first, then by id."""
    default = library.space().id
    with library.catalog.snapshot() as snapshot:
        return [
            SpaceStatus(
                space.id,
                space.encoder,
                space.dimension,
                space.id == default,
                snapshot.counts(space.id).items,
                0
                if space.is_given
                else snapshot.files_behind(space.id, kinds_of(modalities_of(space.encoder))),
            )
            for space in map(library.space, ordered_space_ids(library))
        ]


def ordered_space_ids(library: Library) -> list[str]:
    """List the ids of the spaces of a library, that of the default one first."""
    default = library.manifest.default_space
    return sorted(library.space_ids(), key=lambda space_id: (space_id != default, space_id))
