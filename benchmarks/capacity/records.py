"""What is wanted of a plan, and what it consists of."""

from dataclasses import dataclass

from benchmarks.capacity.measurements import Decoding, Encoding

READ, STORED = "read once", "stored"
MEMORY, DISK = "memory of query nodes", "disks of query nodes"
CACHE = "page cache, if all is to fit"
"""Where bytes are: those of all copies of a kind together; in the page cache, those of one."""


@dataclass(frozen=True)
class Machine:
    """One machine of a fleet. disk_bytes: of its local NVMe."""

    cores: int = 32
    memory_bytes: int = 256 * 10**9
    disk_bytes: int = 8 * 10**12


@dataclass(frozen=True)
class Prices:
    """Prices in one currency. million_puts: of writing a million objects."""

    gpu_hour: float = 2.5
    core_hour: float = 0.04
    tb_month: float = 23.0
    million_gets: float = 0.4
    million_puts: float = 5.0


@dataclass(frozen=True)
class Wanted:
    """What a plan is for.

    images, texts: numbers of images, and of chunks of text. dimension: None: the encoder's. hours:
    in which embedding is to end. machines, gpus: to embed with these instead, however long it
    takes. thumbnails: their longer side in pixels; None: none are kept. recall: recall@10 of text
    queries. image_bytes: mean size of the files; None: as measured for their megapixels.
    """

    images: int
    texts: int = 0
    megapixels: float = 12.0
    encoder: str = "starter"
    dimension: int | None = None
    hours: float = 24.0
    machines: int | None = None
    gpus: int | None = None
    thumbnails: int | None = 320
    recall: float = 0.95
    queries_per_second: float = 10.0
    image_bytes: float | None = None

    @property
    def rows(self) -> int:
        """Number of vectors."""
        return self.images + self.texts


@dataclass(frozen=True)
class Work:
    """One job over all items, in hours of cores and of GPUs."""

    name: str
    core_hours: float = 0.0
    gpu_hours: float = 0.0


@dataclass(frozen=True)
class Bytes:
    """Bytes of one kind. place: as named above."""

    name: str
    kind: str
    place: str
    bytes: float


@dataclass(frozen=True)
class Fleet:
    """Machines and GPUs that embed, and the hours that they take."""

    machines: int
    gpus: int
    hours: float


@dataclass(frozen=True)
class Serving:
    """Query nodes: `shards` hold the library together, `replicas` times.

    memory_bytes, disk_bytes: of one node, used. core_s: of a query, over all shards of a replica.
    reads: of rows from a disk a query. queries_per_second: of all nodes, at their utilisation.
    build_hours: until a node has built its index, with all its cores.
    """

    shards: int
    replicas: int
    memory_bytes: float
    disk_bytes: float
    core_s: float
    reads: float
    queries_per_second: float
    build_hours: float

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.shards * self.replicas


@dataclass(frozen=True)
class Cost:
    """Money for one thing. monthly: whether it is paid each month, or once."""

    name: str
    amount: float
    monthly: bool


@dataclass(frozen=True)
class Limit:
    """Where one machine ends for a part. items: up to how many, images and texts as wanted."""

    part: str
    reason: str
    items: int
    is_passed: bool


@dataclass(frozen=True)
class Plan:
    """All that a library takes.

    encoding: what an image takes, with its source. limits: of one machine, the first one first;
    is_one_machine: none is passed. build_core_hours: of the indices of all query nodes.
    """

    wanted: Wanted
    dimension: int
    image: Decoding
    encoding: Encoding
    work: tuple[Work, ...]
    fleet: Fleet
    bytes: tuple[Bytes, ...]
    serving: Serving
    costs: tuple[Cost, ...]
    limits: tuple[Limit, ...]
    is_one_machine: bool
    build_core_hours: float
    machine: Machine
    prices: Prices

    def bytes_at(self, place: str) -> float:
        """Add up the bytes of a place."""
        return sum(one.bytes for one in self.bytes if one.place == place)

    def total(self, *, monthly: bool) -> float:
        """Add up what is paid each month, or once."""
        return sum(cost.amount for cost in self.costs if cost.monthly == monthly)
