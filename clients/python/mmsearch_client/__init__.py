"""Client of an mmsearch service, synchronous and asynchronous.

>>> from mmsearch_client import Client
>>> with Client("http://localhost:8765") as client:                         # doctest: +SKIP
...     paths = [hit.path for hit in client.search("a dog in the snow").hits]
"""

from mmsearch_client import models
from mmsearch_client.client import (
    AccessDeniedError,
    AsyncClient,
    BusyError,
    Client,
    ServiceError,
    UnreachableError,
)
from mmsearch_client.errors import MMSearchError, NotFoundError, UsageError
from mmsearch_client.models import Answer, Filter, Hit, Item, Job, Part, SearchRequest

__all__ = [
    "AccessDeniedError",
    "Answer",
    "AsyncClient",
    "BusyError",
    "Client",
    "Filter",
    "Hit",
    "Item",
    "Job",
    "MMSearchError",
    "NotFoundError",
    "Part",
    "SearchRequest",
    "ServiceError",
    "UnreachableError",
    "UsageError",
    "models",
]
