"""What is measured: the protocol of a way to search vectors."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors

Setting = dict[str, int]
"""What can be chosen at a search, such as nprobe: one point of a curve."""


class Method(Protocol):
    """Builds an index in one process, and opens and searches it in others."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        ...

    @property
    def builds(self) -> str:
        """What is built; methods that build the same share it."""
        ...

    @property
    def package(self) -> str | None:
        """The module that it needs, besides ours."""
        ...

    @property
    def rows_in_file(self) -> bool:
        """Whether it reads the embeddings file as it searches: its pages are memory then, too."""
        ...

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """Build from (n, d) rows, leave it in the folder, and say with what parameters."""
        ...

    def open(self, rows: Rows, folder: Path, *, threads: int) -> None:
        """Make ready to search what `build` left, in this process."""
        ...

    def settings(self, k: int) -> list[Setting]:
        """Settings to measure, from fast to thorough, for lists of k. Called after `open`."""
        ...

    def search(self, queries: Vectors, k: int, setting: Setting) -> NDArray[np.int64]:
        """Find k rows for each of (m, d) unit queries, (m, k), -1 where there are fewer."""
        ...
