"""The Ray Data job: how many read and how many encode, and what comes out of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import batched
from typing import Any

from indexer.cluster.connection import ClusterError, Resources, ray
from indexer.cluster.stages import (
    Encoding,
    FileToRead,
    Measured,
    NumberedStep,
    Task,
    measure,
    pack_files,
    read_files,
    unpack_steps,
    weight_of,
)
from retrieval.errors import MMSearchError
