"""Pairs of an image and a caption, drawn and arranged into batches, the same ones for a seed."""

import copy
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import LEAST_SIDE, Source, read_image
from retrieval.training.captions import CaptionedPhoto

REASONS_KEPT = 5


@dataclass(frozen=True)
class TrainingPair:
    """An image with one of its captions.

    image: id, equal for pairs of the same image. variant: number of the augmented variant, so that
    `image` and `variant` tell what `open` gives. open: decodes to an upright RGB image, augmented;
    raises UnreadableFileError or OSError where the image is damaged or missing. number: that of the
    photo in the source, if it is not a stream.
    """

    image: str
    caption: str
    open: Callable[[], Image.Image]
    variant: int = 0
    number: int = 0


class PairSource(Protocol):
    """Pairs in batches, epoch by epoch.

    size: pairs an epoch; None where it is not known, as of streams. digest: of everything that the
    pairs and their order depend on.
    """

    @property
    def size(self) -> int | None:
        """Pairs an epoch."""

    @property
    def digest(self) -> str:
        """Digest of settings and data."""

    def batches(
        self, epoch: int, batch_size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[list[TrainingPair]]:
        """Yield the batches of an epoch, the same ones at each call.

        Args:
            epoch: number of the epoch, from 0.
            batch_size: pairs of all processes together; a multiple of `world`.
            rank: number of this process, which gets its part of each batch.
            world: number of processes.

        Raises:
            UsageError: a batch cannot be divided so.
        """


ImageAugmentation = Callable[[Image.Image, int, Sequence[str]], Image.Image]
"""Makes the variant of an RGB image for a seed; is told the captions of the image."""

TextAugmentation = Callable[[Sequence[str], int, int], str]
"""Makes the variant of one of an image's captions for a seed: captions, number of one, seed."""


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """Captioned photos of one origin.

    weight: share of the pairs of an epoch, relative to those of other sets; None: by size. classes:
    of each photo, for class-balanced sampling; empty where there are none.
    """

    photos: Sequence[CaptionedPhoto]
    weight: float | None = None
    classes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < float("inf"):
            raise UsageError(f"The weight of a dataset must be greater than 0, not {self.weight}.")
        if self.classes and len(self.classes) != len(self.photos):
            raise UsageError(f"{len(self.photos):,} photos have {len(self.classes):,} classes.")


class PhotoPairs:
    """Pairs of captioned photos: a `PairSource`.

    An epoch draws each caption once where no weight, balance or number of captions is set. No photo
    comes twice in a batch while there are enough others; pairs that fill no batch are left out,
    other ones in each epoch.

    With `balance` b, the captions of a class of n are drawn in proportion to n^(1 - b): as they are
    with 0, all classes alike with 1 (temperature-scaled sampling, as of languages in Arivazhagan et
    al. 2019). With weights, sets get their shares of as many pairs as there are captions. Draws are
    systematic: a photo that is due x times comes floor(x) or ceil(x) times.
    """

    def __init__(
        self,
        sets: Sequence[PhotoSet],
        *,
        seed: int = 0,
        captions_a_photo: int | None = None,
        balance: float = 0.0,
        neighbours: Callable[[int], Sequence[int]] | None = None,
        hard_negatives: int = 1,
        augment_image: ImageAugmentation | None = None,
        augment_text: TextAugmentation | None = None,
        variants: int | None = None,
    ) -> None:
        """Prepare pairs of the photos of all sets.

        Args:
            sets: at least one, whose photos have captions.
            seed: of everything that is drawn.
            captions_a_photo: pairs of each photo an epoch, of other captions each epoch; None: all.
            balance: 0 to 1, see above.
            neighbours: gives the numbers of photos similar to one, the most similar first; numbers
                count through all sets. They join its batch as hard negatives.
            hard_negatives: neighbours of each drawn photo in a batch.
            augment_image: makes variants of photos.
            augment_text: makes variants of captions.
            variants: variants of each photo, in turn by epoch; None: a new one each epoch.

        Raises:
            UsageError: a setting is out of its range, a photo has no caption, or balance without
                classes, or weights of some sets only.
        """
        self.photos = [photo for each in sets for photo in each.photos]
        if not self.photos:
            raise UsageError("There is no photo to train on.")
        for photo in self.photos:
            if not photo.captions:
                raise UsageError(f"{photo.path} has no caption.")
        if not 0 <= balance <= 1:
            raise UsageError(f"balance must be from 0 to 1, not {balance}.")
        for name, number in (("captions_a_photo", captions_a_photo), ("variants", variants)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}.")
        if hard_negatives < 1:
            raise UsageError(f"hard_negatives must be at least 1, not {hard_negatives}.")
        if len({each.weight is None for each in sets}) > 1:
            raise UsageError("Give a weight to every dataset, or to none.")
        if balance and not all(each.classes for each in sets if len(each.photos)):
            raise UsageError("Class-balanced sampling needs a dataset with classes of its images.")
        self._seed = seed
        self._neighbours = neighbours
        self._hard_negatives = hard_negatives
        self._augment_image = augment_image
        self._augment_text = augment_text
        self._variants = variants
        self._expected = _expected_draws(sets, captions_a_photo, balance)
        self._recipe = repr(
            (seed, captions_a_photo, balance, hard_negatives, augment_image, augment_text, variants)
        )

    @property
    def size(self) -> int:
        """Pairs an epoch."""
        return round(float(self._expected.sum()))

    @property
    def digest(self) -> str:
        """Digest of the settings, the captions, the names and sizes of the files, the neighbours.

        XXH3 of 128 bits in hexadecimal.
        """
        digest = xxhash.xxh3_128(self._recipe.encode())
        digest.update(self._expected.tobytes())
        for number, photo in enumerate(self.photos):
            try:
                size = photo.path.stat().st_size
            except OSError:
                size = -1
            near = list(self._neighbours(number)) if self._neighbours else None
            entry = repr((photo.path.name, size, photo.captions, near))
            digest.update(entry.encode(errors="surrogatepass"))
        return digest.hexdigest()

    def batches(
        self, epoch: int, batch_size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[list[TrainingPair]]:
        """Yield the batches of an epoch; see `PairSource`."""
        batch_size = part_of_batch(batch_size, rank, world) * world
        size = self.size
        whole = min(batch_size, size - size % world)
        if whole < world:
            raise UsageError(f"{size:,} pairs are too few for {world:,} processes.")
        random = np.random.default_rng([self._seed, epoch])
        photos, captions = self._draw(random)
        near = self._neighbours or (lambda _photo: ())
        for places in _arranged(photos, whole, near, self._hard_negatives):
            mine = places[rank::world]
            yield [self._pair(epoch, int(photos[place]), int(captions[place])) for place in mine]

    def _draw(self, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the pairs of an epoch in random order: numbers of photos and of their captions."""
        order = random.permutation(len(self.photos))
        ends = np.floor(np.cumsum(self._expected[order]) + random.random())
        counts = np.empty(len(order), dtype=np.int64)
        counts[order] = np.diff(ends, prepend=0)
        photos = np.repeat(np.arange(len(counts)), counts)
        captions = np.empty(len(photos), dtype=np.int64)
        keys = np.empty(len(photos))
        start = 0
        for number, count in enumerate(counts.tolist()):
            if not count:
                continue
            there = len(self.photos[number].captions)
            rounds = -(-count // there)
            drawn = np.concatenate([random.permutation(there) for _ in range(rounds)])
            captions[start : start + count] = drawn[:count]
            # Those of a photo lie apart, so that few of them meet in a batch.
            keys[start : start + count] = (np.arange(count) + random.random()) / count
            start += count
        shuffled = np.lexsort((random.random(len(keys)), keys))
        return photos[shuffled], captions[shuffled]

    def _pair(self, epoch: int, number: int, caption: int) -> TrainingPair:
        photo = self.photos[number]
        variant = epoch if self._variants is None else epoch % self._variants
        text = photo.captions[caption]
        if self._augment_text is not None:
            text = self._augment_text(
                photo.captions, caption, seed_of(self._seed, epoch, number, caption)
            )
        return TrainingPair(
            str(photo.path),
            text,
            partial(
                open_augmented,
                photo.path,
                self._augment_image,
                seed_of(self._seed, variant, number),
                photo.captions,
            ),
            variant if self._augment_image is not None else 0,
            number,
        )

    @property
    def fixed_variants(self) -> int | None:
        """Number of variants of each photo; None: photos or captions are new ones each epoch."""
        if self._augment_text is not None:
            return None
        return 1 if self._augment_image is None else self._variants

    def open(self, number: int, variant: int) -> Image.Image:
        """Decode a variant of a photo, as pairs do."""
        photo = self.photos[number]
        seed = seed_of(self._seed, variant, number)
        return open_augmented(photo.path, self._augment_image, seed, photo.captions)

    @property
    def image_digest(self) -> str:
        """Digest of what `open` depends on: XXH3 of 128 bits in hexadecimal."""
        digest = xxhash.xxh3_128(repr((self._seed, self._augment_image, self._variants)).encode())
        for photo in self.photos:
            entry = repr((str(photo.path), _modified(photo.path), photo.captions))
            digest.update(entry.encode(errors="surrogatepass"))
        return digest.hexdigest()

    def with_neighbours(
        self, neighbours: Callable[[int], Sequence[int]], hard_negatives: int
    ) -> "PhotoPairs":
        """Return the same pairs, arranged with other hard negatives."""
        other = copy.copy(self)
        other._neighbours, other._hard_negatives = neighbours, hard_negatives
        return other


def _arranged(
    photos: NDArray[np.int64],
    batch_size: int,
    neighbours: Callable[[int], Sequence[int]],
    hard_negatives: int,
) -> Iterator[list[int]]:
    """Divide pairs into batches in their order; yields their places, each once at most.

    Args:
        photos: (n,) int64, the photo of each pair.
        batch_size: pairs of a batch.
        neighbours: photos similar to one, the most similar first.
        hard_negatives: how many of these join a photo in its batch.
    """
    waiting: dict[int, list[int]] = {}
    for place in range(len(photos) - 1, -1, -1):
        waiting.setdefault(int(photos[place]), []).append(place)
    taken = np.zeros(len(photos), dtype=bool)
    ahead = iter(range(len(photos)))
    passed: list[int] = []
    for _ in range(len(photos) // batch_size):
        batch: dict[int, int] = {}
        passed_again = []
        for place in chain(passed, ahead):
            photo = int(photos[place])
            if taken[place]:
                continue
            if photo in batch:
                passed_again.append(place)
                continue
            batch[photo] = waiting[photo].pop()
            count = min(hard_negatives, batch_size - len(batch))
            near = _first_waiting(neighbours(photo), waiting, batch, count)
            batch.update((each, waiting[each].pop()) for each in near)
            taken[[batch[each] for each in (photo, *near)]] = True
            if len(batch) == batch_size:
                break
        passed = sorted(place for place in {*passed_again, *passed} if not taken[place])
        # Where too few photos are left, some come twice.
        spare = passed[: batch_size - len(batch)]
        for place in spare:
            waiting[int(photos[place])].remove(place)
        taken[spare] = True
        yield [*batch.values(), *spare]


def _first_waiting(
    photos: Iterable[int], waiting: Mapping[int, list[int]], present: Container[int], count: int
) -> list[int]:
    """Return the first photos that have pairs waiting and are not in a batch."""
    there = (photo for photo in map(int, photos) if photo not in present and waiting.get(photo))
    return list(dict.fromkeys(islice(there, count)))


def part_of_batch(batch_size: int, rank: int, world: int) -> int:
    """Return how many pairs of a batch are one process's.

    Raises UsageError where there is no such process, or the batch cannot be divided.
    """
    if world < 1 or not 0 <= rank < world:
        raise UsageError(f"There is no process {rank} of {world}.")
    if batch_size < world or batch_size % world:
        raise UsageError(
            f"A batch of {batch_size:,} pairs cannot be divided among {world:,} processes."
        )
    return batch_size // world


def _modified(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file; -1 where it is missing."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def seed_of(*key: int | str) -> int:
    """Compute a seed of 63 bits from numbers and texts."""
    return xxhash.xxh3_64_intdigest(repr(key).encode(errors="surrogatepass")) >> 1


def open_augmented(
    source: Source,
    augment: ImageAugmentation | None,
    seed: int,
    captions: Sequence[str],
    name: str | None = None,
) -> Image.Image:
    """Decode an image, upright and as RGB, and augment it; raises as `read_image`."""
    image = read_image(source, name=name, least_side=LEAST_SIDE)
    return image if augment is None else augment(image, seed, captions)


def _expected_draws(
    sets: Sequence[PhotoSet], captions_a_photo: int | None, balance: float
) -> NDArray[np.float64]:
    """Compute how often each photo is due an epoch: (photos,) float64."""
    most = np.inf if captions_a_photo is None else captions_a_photo
    due = [np.array([min(len(p.captions), most) for p in s.photos], np.float64) for s in sets]
    total = sum(float(each.sum()) for each in due)
    weights = [each.weight for each in sets]
    shares = [float(each.sum()) if w is None else w for each, w in zip(due, weights, strict=True)]
    shares = [share if len(each) else 0.0 for share, each in zip(shares, due, strict=True)]
    found = []
    for each, share, photo_set in zip(due, shares, sets, strict=True):
        if not len(each):
            continue
        drawn = each
        if balance:
            mass: Counter[str] = Counter()
            for name, captions in zip(photo_set.classes, each.tolist(), strict=True):
                mass[name] += captions
            drawn = each * np.array([mass[name] ** -balance for name in photo_set.classes])
        if balance or photo_set.weight is not None:
            drawn = drawn * (total * share / sum(shares) / drawn.sum())
        found.append(drawn)
    return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Batch:
    """Decoded pairs of one process: n rows.

    images: (n, ...) as the encoder's preprocessing gives them. captions: n texts. ids: n image ids.
    groups: (n,) int64, equal for pairs of the same image, in all processes. damaged: image id and
    reason of the pairs that could not be read; pairs of the same batch stand in their places.
    """

    images: Tensor
    captions: tuple[str, ...]
    ids: tuple[str, ...]
    groups: Tensor
    damaged: tuple[tuple[str, str], ...] = ()


class DamagedImages:
    """Counts images that could not be read, and keeps the first reasons."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self.reasons: list[str] = []

    def __len__(self) -> int:
        """Number of images that could not be read."""
        return len(self._seen)

    def add(self, batch: Batch) -> None:
        """Note the damaged images of a batch."""
        for image, reason in batch.damaged:
            self.note(image, reason)

    def note(self, image: str, reason: str) -> None:
        """Note that an image, or what was to give images, cannot be read."""
        if image not in self._seen and len(self.reasons) < REASONS_KEPT:
            self.reasons.append(f"{image}: {reason}")
        self._seen.add(image)

    def __str__(self) -> str:
        """Say how many there are, and the first reasons; empty where there are none."""
        if not self._seen:
            return ""
        more = len(self._seen) - len(self.reasons)
        tail = f"; and {more:,} more" if more else ""
        return f"{len(self._seen):,} cannot be read: {'; '.join(self.reasons)}{tail}"


def decoded_batches(
    source: PairSource,
    epoch: int,
    batch_size: int,
    preprocess: Callable[[Image.Image], Tensor],
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    damaged: DamagedImages | None = None,
    read: Callable[[TrainingPair], Tensor] | None = None,
) -> Iterator[Batch]:
    """Decode, augment and preprocess the batches of an epoch ahead of their use.

    The result does not depend on `workers`. A damaged or missing image is left out: another pair of
    the batch takes its place, so that all batches of all processes keep their size.

    Args:
        source: the pairs.
        epoch: number of the epoch, from 0.
        batch_size: pairs of all processes together.
        preprocess: the encoder's own; of equal shapes.
        rank: number of this process.
        world: number of processes.
        workers: processes that decode; 0: this one does.
        damaged: notes images that could not be read.
        read: gives the image of a pair, where that is not to be decoded.

    Raises:
        UsageError: no image of a batch can be read, or a batch cannot be divided so.
    """
    from torch.utils.data import DataLoader

    if workers < 0:
        raise UsageError(f"workers must be at least 0, not {workers}.")
    batches = source.batches(epoch, batch_size, rank=rank, world=world)
    decode: Any = _Decoder(read or partial(_decoded, preprocess))
    # The pairs of a batch are the "indices" that workers are sent. The seed of their generators,
    # which nothing here draws from, would be drawn from the process's own.
    loader = DataLoader(
        decode,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    for batch in loader:
        if damaged is not None:
            damaged.add(batch)
        if not batch.captions:
            image, reason = batch.damaged[0]
            raise UsageError(
                f"None of the {len(batch.damaged):,} images of a batch can be read. The first: "
                f"{image}: {reason}"
            )
        yield batch


class _Decoder:
    """What PyTorch's loader calls a dataset: makes batches of pairs."""

    def __init__(self, read: Callable[[TrainingPair], Tensor]) -> None:
        self._read = read

    def __getitems__(self, pairs: Sequence[TrainingPair]) -> Batch:
        images: list[Tensor | None] = []
        damaged = []
        for pair in pairs:
            try:
                images.append(self._read(pair))
            except (OSError, UnreadableFileError) as error:
                images.append(None)
                damaged.append((pair.image, str(error) or type(error).__name__))
        good = [place for place, image in enumerate(images) if image is not None]
        if not good:
            none = torch.empty(0)
            return Batch(none, (), (), none.long(), tuple(damaged))
        # The next good pair stands in for a damaged one.
        after = np.searchsorted(good, np.arange(len(pairs))) % len(good)
        chosen = [good[number] for number in after]
        rows = [image for place in chosen if (image := images[place]) is not None]
        ids = tuple(pairs[place].image for place in chosen)
        return Batch(
            torch.stack(rows),
            tuple(pairs[place].caption for place in chosen),
            ids,
            torch.tensor([seed_of(image) for image in ids]),
            tuple(damaged),
        )


def _decoded(preprocess: Callable[[Image.Image], Tensor], pair: TrainingPair) -> Tensor:
    return preprocess(pair.open())


def _as_it_is(batch: Any) -> Any:
    return batch
