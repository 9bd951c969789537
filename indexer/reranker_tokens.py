"""Image tokens for the reranker, computed ahead of the searches that need them."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from indexer.pipeline import DEFAULT_BATCH_SIZE
from indexer.progress import Progress
from retrieval.catalog import Item
from retrieval.encoders.base import Encoder, Pixels
from retrieval.errors import LibraryError, UsageError
from retrieval.library import Library
from retrieval.media.items import read_item_image_if_unchanged
from retrieval.rerankers.base import Reranker, image_token_shape
from retrieval.rerankers.token_cache import TokenCacheSettings


@dataclass(frozen=True)
class TokensPlan:
    """What has to be computed, and how large it will be.

    missing: items by what their picture is, in the order of the library's rows. present: pictures
    whose tokens are there. held_bytes: what the cache holds of any reranker.
    """

    missing: dict[str, list[Item]]
    present: int
    bytes_per_image: int
    held_bytes: int
    settings: TokenCacheSettings

    @property
    def new_bytes(self) -> int:
        """Estimate the size of the missing tokens, in bytes."""
        return len(self.missing) * self.bytes_per_image

    def require_room(self) -> None:
        """Raise UsageError when the cache would have to drop tokens to keep all."""
        total = self.new_bytes + self.held_bytes
        if not self.missing or total <= self.settings.limit_bytes:
            return
        smaller = "" if self.settings.precision == "int8" else ", or try `--token-precision int8`"
        raise UsageError(
            f"The tokens of {len(self.missing):,} images take {self.new_bytes / 1e6:,.1f} MB; with "
            f"the {self.held_bytes / 1e6:,.1f} MB that are cached already, that is more than the "
            f"token cache's limit of {self.settings.limit_bytes / 1e6:,.1f} MB. Raise it with "
            f"`--token-cache {math.ceil(total / 1e6)}MB`{smaller}. No tokens were computed."
        )


@dataclass
class TokensSummary:
    """What a run did. Counts are pictures; those of files of the same content count once.

    failed: their files are gone, changed since they were indexed, or unreadable. `interrupted`:
    the run was stopped and the rest is to be done.
    """

    made: int = 0
    present: int = 0
    failed: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def plan_tokens(
    library: Library,
    encoder: Encoder,
    reranker: Reranker,
    settings: TokenCacheSettings | None = None,
) -> TokensPlan:
    """Find the images of a space that lack tokens.

    Args:
        library: the library whose images and token cache are compared.
        encoder: the encoder of the space.
        reranker: the model whose tokens are needed.
        settings: of the token cache; None: those of the library.
    """
    with library.catalog.snapshot() as snapshot:
        pictures = snapshot.pictures(encoder.space.id)
    items: dict[str, list[Item]] = {}
    for item in pictures:
        items.setdefault(item.picture_key, []).append(item)
    cache = library.tokens
    missing = {key: found for key, found in items.items() if (reranker.identity, key) not in cache}
    settings = settings or cache.settings
    tokens, channels = image_token_shape(reranker)
    return TokensPlan(
        missing=missing,
        present=len(items) - len(missing),
        bytes_per_image=cache.bytes_per_image(tokens, channels, settings.precision),
        held_bytes=cache.usage().bytes,
        settings=settings,
    )


def prepare_tokens(
    library: Library,
    encoder: Encoder,
    reranker: Reranker,
    *,
    workers: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_plan: Callable[[TokensPlan], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TokensSummary:
    """Compute and cache the tokens of every image of a space that lacks them.

    Files are read once more: what a run of `index_sources` has decoded is not held until here.
    Needs no right to write to the library.

    Args:
        library: the library whose images and token cache are used.
        encoder: the encoder of the space, which decides how images are preprocessed.
        reranker: the model that computes the tokens.
        workers: number of decoder processes; None: by the number of cores.
        batch_size: number of images that are encoded together.
        on_plan: called before anything is computed.
        on_progress: called as images are done.
        should_stop: asked between batches; the next call completes what was left.

    Raises:
        UsageError: the tokens would not fit beside what the cache holds.
        LibraryError: the tokens cannot be cached.
    """
    start = time.perf_counter()
    plan = plan_tokens(library, encoder, reranker)
    on_plan(plan)
    plan.require_room()
    summary = TokensSummary(present=plan.present)
    total, done = len(plan.missing), 0
    on_progress(Progress(0, total))
    read_tokens = partial(_read, reranker, library.max_pixels)
    read = _read_ahead(read_tokens, plan.missing, batch_size, workers)
    try:
        while batch := list(islice(read, batch_size)):
            made = _keep_tokens(library, reranker, batch)
            summary.made += made
            summary.failed += len(batch) - made
            done += len(batch)
            on_progress(Progress(done, total, summary.failed))
            if should_stop():
                break
    finally:
        read.close()
    summary.interrupted = done < total
    summary.seconds = time.perf_counter() - start
    return summary


def _read_ahead(
    read: Callable[[Sequence[Item]], Pixels | None],
    missing: dict[str, list[Item]],
    batch_size: int,
    workers: int | None,
) -> Generator[tuple[str, Pixels | None], None, None]:
    """Read pictures in worker threads, at most two batches ahead, and give them in order."""
    workers = workers or min(8, os.cpu_count() or 1)
    window: deque[tuple[str, Future[Pixels | None]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for key, items in missing.items():
                window.append((key, pool.submit(read, items)))
                if len(window) >= 2 * batch_size:
                    first, pixels = window.popleft()
                    yield first, pixels.result()
            while window:
                first, pixels = window.popleft()
                yield first, pixels.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(reranker: Reranker, max_pixels: int | None, items: Sequence[Item]) -> Pixels | None:
    """Read the first of some like pictures whose file is unchanged; None where none is."""
    images = (read_item_image_if_unchanged(item, max_pixels) for item in items)
    image = next((image for image in images if image is not None), None)
    return None if image is None else reranker.preprocess(image)


def _keep_tokens(
    library: Library, reranker: Reranker, batch: Sequence[tuple[str, Pixels | None]]
) -> int:
    """Compute and keep the tokens of what could be read; returns how many."""
    readable = [(content_hash, pixels) for content_hash, pixels in batch if pixels is not None]
    if not readable:
        return 0
    tokens = reranker.image_tokens(np.stack([pixels for _, pixels in readable]))
    made = 0
    for (content_hash, _), values, mask in zip(readable, tokens.values, tokens.mask, strict=True):
        if not np.isfinite(values[mask]).all():
            continue
        library.tokens.put(reranker.identity, content_hash, values[mask])
        if (reranker.identity, content_hash) not in library.tokens:
            raise LibraryError(
                f"Tokens cannot be cached in {library.tokens.folder}: the disk is full or "
                "read-only, or another process has filled the cache. What was cached before stays; "
                "run the same command again to go on."
            )
        made += 1
    return made
