"""How far an indexing run is, and what it did."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """How far a run is, in files that have to be read.

    done: files in the library. total: None while folders are walked. read: files read so far, of
    which those of the last batch are not in the library yet. detail: where it is in what takes
    long, such as `talk.mp4 at 3:20`.
    """

    done: int
    total: int | None
    failed: int = 0
    read: int = 0
    detail: str = ""


@dataclass
class Summary:
    """What a run did. Counts are files, but for `embedded`.

    found: files that are there now. unchanged: neither read nor embedded, or only touched. moved:
    found at another path than before. relocated: re-rooted with a source that was moved as a whole,
    before the others were counted. duplicates: added files whose content was known already, from
    another file. failed: could not be read, now or when last looked at. noted: read by this run,
    but not whole. refreshed: known content whose metadata was read again. embedded: pictures and
    chunks that a vector was computed for. interrupted: the run was stopped and the rest is to be
    done. notes: sentences about sources that were moved or are missing, and about old metadata.
    endings, system_folders: files of other kinds by ending, and folders of systems and programs by
    name, that the walk passed over.
    """

    found: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    moved: int = 0
    relocated: int = 0
    duplicates: int = 0
    removed: int = 0
    failed: int = 0
    noted: int = 0
    refreshed: int = 0
    embedded: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)
    endings: dict[str, int] = field(default_factory=dict)
    system_folders: dict[str, int] = field(default_factory=dict)

    @property
    def items_per_second(self) -> float:
        """Vectors computed in a second of the whole run."""
        return self.embedded / self.seconds if self.seconds else 0.0
