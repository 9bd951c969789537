"""Pairs streamed from shards: tar files in the form of WebDataset, here or on a server."""

import json
import os.path
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from retrieval.errors import NotFoundError, UnreadableFileError, UsageError, import_errors_as
from retrieval.objects.opening import open_path
from retrieval.objects.paths import SHARD_ENDING, given_uri, is_uri
from retrieval.objects.shards import Member, members_of
from retrieval.training.encoders.pairs import (
    DamagedImages,
    ImageAugmentation,
    TextAugmentation,
    TrainingPair,
    open_augmented,
    part_of_batch,
    seed_of,
)

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp")
TEXT_ENDINGS = ("txt", "json")
CAPTION_FIELDS = ("captions", "caption", "text")

_MOST_SHARDS = 1_000_000
_MOST_MEMBER_BYTES = 256 << 20
"""Larger members are damaged, or no photo: an epoch holds a buffer of them in memory."""

_Sample = dict[str, Any]


class WebDatasetPairs:
    """Pairs of an image and one of its captions, streamed from shards: a `PairSource`.

    Members of one name before the first dot are a sample: an image (.jpg, .jpeg, .png, .webp) with
    a text (.txt) or a JSON object (.json) with `captions`, `caption` or `text`, a text or a list of
    texts. Members of other endings are not read, and nothing is unpickled or executed. Shards, and
    then samples in a buffer, come in an order that the seed and the epoch decide, so that a run
    can resume at any epoch.

    Each process reads shards of its own. `damaged` counts shards and samples that cannot be read.
    """

    def __init__(
        self,
        pattern: str,
        *,
        seed: int = 0,
        size: int | None = None,
        buffer: int = 1000,
        augment_image: ImageAugmentation | None = None,
        augment_text: TextAugmentation | None = None,
        damaged: DamagedImages | None = None,
    ) -> None:
        """Find the shards of a pattern.

        Args:
            pattern: a file, a folder with `.tar` files, or a path or address with braces, such as
                `/data/coco-{0000..0119}.tar` or `s3://bucket/{a,b}.tar`. Servers are asked
                where the user trusts them.
            seed: of everything that is drawn.
            size: pairs an epoch; None: each sample once, by one process only.
            buffer: samples that are shuffled among each other.
            augment_image: makes variants of images.
            augment_text: makes variants of captions.
            damaged: where to count what cannot be read.

        Raises:
            NotFoundError: there is no such file, or no shard in the folder.
            UsageError: it is no path or address of shards, a setting is out of range, or the
                package `webdataset` is missing.
        """
        with import_errors_as(
            UsageError("Shards are read with the package webdataset: pip install webdataset.")
        ):
            import webdataset  # noqa: F401
        for name, number in (("size", size), ("buffer", buffer)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}.")
        self.shards = find_shards(pattern)
        self.size = size
        self.damaged = DamagedImages() if damaged is None else damaged
        self._seed = seed
        self._buffer = buffer
        self._augment_image = augment_image
        self._augment_text = augment_text

    @property
    def digest(self) -> str:
        """Digest of the settings, and the names and sizes of the shards, of servers the names.

        XXH3 of 128 bits in hexadecimal.
        """
        shards = [
            (uri_or_path.rpartition("/")[2], -1 if is_uri(uri_or_path) else _size_of(uri_or_path))
            for uri_or_path in self.shards
        ]
        settings = (self._seed, self.size, self._buffer, self._augment_image, self._augment_text)
        return xxhash.xxh3_128_hexdigest(repr((settings, shards)).encode(errors="surrogatepass"))

    def batches(
        self, epoch: int, batch_size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[list[TrainingPair]]:
        """Yield the batches of an epoch; see `PairSource`.

        With `size`, the same number in all processes, from as many rounds over the shards as it
        takes; without, as many as the shards fill. Raises UsageError also where there are fewer
        shards than processes, no `size` for several, or no pair in any shard.
        """
        part = part_of_batch(batch_size, rank, world)
        if len(self.shards) < world:
            raise UsageError(
                f"{world:,} processes need as many shards; there are {len(self.shards):,}."
            )
        if self.size is None and world > 1:
            raise UsageError(
                "Several processes stream equal numbers of pairs: say how many make an epoch."
            )
        if self.size is not None and self.size < batch_size:
            raise UsageError(
                f"An epoch of {self.size:,} pairs has no batch of {batch_size:,}: choose a smaller "
                "batch or a longer epoch."
            )
        pairs = self._pairs(epoch, rank, world)
        batches = iter(lambda: list(islice(pairs, part)), [])
        if self.size is not None:
            yield from islice(batches, self.size // batch_size)
            return
        first = next(batches)
        yield first
        yield from (batch for batch in batches if len(batch) == part)

    def _pairs(self, epoch: int, rank: int, world: int) -> Iterator[TrainingPair]:
        """Yield pairs round after round if there is a size, else of one round."""
        round_ = 0
        while True:
            order = np.random.default_rng([self._seed, epoch, round_]).permutation(len(self.shards))
            mine = [self.shards[number] for number in order[rank::world].tolist()]
            found = False
            for sample in self._samples(mine, seed_of(self._seed, epoch, round_, rank)):
                pair = self._pair(sample, epoch)
                if pair is not None:
                    found = True
                    yield pair
            if not found:
                raise UsageError(
                    f"There is no pair of image and caption in {len(mine):,} shards, of which the "
                    f"first is {mine[0]}. {self.damaged}".rstrip()
                )
            if self.size is None:
                return
            round_ += 1

    def _samples(self, shards: Sequence[str], seed: int) -> Iterator[_Sample]:
        """Stream samples of shards through a buffer that shuffles them."""
        from webdataset.filters import shuffle
        from webdataset.tariterators import group_by_keys

        samples = group_by_keys(
            self._members(shards),
            suffixes={*IMAGE_ENDINGS, *TEXT_ENDINGS},
            handler=self._note,
        )
        generator = random.Random(seed)
        stage = shuffle(self._buffer, initial=self._buffer, rng=generator)
        yield from stage(iter(samples))

    def _members(self, shards: Sequence[str]) -> Iterator[_Sample]:
        """Yield members as `webdataset` groups them, and an empty one after each shard.

        Not by its own reader: that unpacks what is compressed or sparse, however large it gets,
        and takes `pipe:` for a command.
        """
        for shard in shards:
            try:
                with open_path(shard) as file:
                    yield from self._members_of(shard, file)
            except (OSError, UnreadableFileError) as error:
                self.damaged.note(shard, str(error))
            yield {}

    def _members_of(self, shard: str, file: BinaryIO) -> Iterator[_Sample]:
        members: list[tuple[str, Member]] = []
        try:
            members.extend(members_of(file))
        except OSError as error:
            self.damaged.note(shard, str(error))
        for name, member in members:
            if name.lower().rpartition(".")[2] not in {*IMAGE_ENDINGS, *TEXT_ENDINGS}:
                continue
            if member.size > _MOST_MEMBER_BYTES:
                self.damaged.note(f"{shard}/{name}", f"it has {member.size:,} bytes")
                continue
            file.seek(member.offset)
            data = file.read(member.size)
            if len(data) < member.size:
                self.damaged.note(f"{shard}/{name}", "its shard ends early")
                continue
            yield {"fname": name, "data": data, "__url__": shard}

    def _note(self, error: Exception) -> bool:
        """Note what `webdataset` cannot group, and go on."""
        reason, *_, shard = [*error.args, "a shard"]
        self.damaged.note(str(shard), str(reason))
        return True

    def _pair(self, sample: Mapping[str, Any], epoch: int) -> TrainingPair | None:
        """Make a pair of a sample; None for one without an image, or without a caption."""
        name = f"{sample['__url__']}/{sample['__key__']}"
        ending = next((ending for ending in IMAGE_ENDINGS if ending in sample), None)
        try:
            captions = captions_of(sample)
        except ValueError as error:
            self.damaged.note(name, str(error))
            return None
        if ending is None or not captions:
            self.damaged.note(name, "it has no caption" if ending else "it has no image")
            return None
        # Not of the folder, which may be another one when a run goes on.
        key = (self._seed, epoch, name.removeprefix(os.path.dirname(sample["__url__"])))  # noqa: PTH120
        chosen = seed_of(*key, "caption") % len(captions)
        text = captions[chosen]
        if self._augment_text is not None:
            text = self._augment_text(captions, chosen, seed_of(*key, "text"))
        opened = partial(
            open_augmented,
            sample[ending],
            self._augment_image,
            seed_of(*key, "image"),
            captions,
            f"{sample['__key__']}.{ending}",
        )
        return TrainingPair(name, text, opened, 0 if self._augment_image is None else epoch)


def find_shards(pattern: str) -> list[str]:
    """List the shards of a pattern: a file, a folder, or a path or address with braces.

    Raises NotFoundError, UsageError; see `WebDatasetPairs`.
    """
    here = Path(pattern).expanduser()
    # os.path, since Path raises an error for a list in braces that is longer than a name may be.
    if os.path.isdir(here):  # noqa: PTH112
        found = sorted(f for f in here.iterdir() if f.name.lower().endswith(SHARD_ENDING))
        if not found:
            raise NotFoundError(f"There is no {SHARD_ENDING} file in {here}.")
        return [str(file) for file in found]
    if os.path.isfile(here):  # noqa: PTH113
        return [str(here)]
    names = list(islice(_expanded(pattern), _MOST_SHARDS + 1))
    if len(names) > _MOST_SHARDS:
        raise UsageError(f"{pattern} names more than {_MOST_SHARDS:,} shards.")
    return [_shard(name) for name in names]


def _expanded(pattern: str) -> Iterable[str]:
    from braceexpand import braceexpand

    try:
        yield from braceexpand(pattern)
    except ValueError as error:
        raise UsageError(f"The braces of {pattern} do not match: {error}.") from error


def _shard(name: str) -> str:
    uri = given_uri(name)
    if uri is not None:
        return uri
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", name):
        raise UsageError(
            f"{name} is no path of a shard: there are files, and objects of s3, gs, az, http and "
            "https."
        )
    path = Path(name).expanduser()
    if not os.path.isfile(path):  # noqa: PTH113
        raise NotFoundError(f"There is no shard at {path}.")
    return str(path)


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def captions_of(sample: Mapping[str, bytes]) -> tuple[str, ...]:
    """Read the captions of a sample from its text or JSON; raises ValueError where it is neither.

    The text is one caption, however many lines it has.
    """
    texts: list[Any] = []
    if "txt" in sample:
        texts.append(sample["txt"].decode("utf-8-sig"))
    if "json" in sample:
        try:
            said = json.loads(sample["json"].decode("utf-8-sig"))
        except RecursionError as error:
            raise ValueError("its JSON is nested too deeply") from error
        if not isinstance(said, dict):
            raise ValueError("its JSON is no object")
        for name in CAPTION_FIELDS:
            value = said.get(name)
            texts += value if isinstance(value, list) else [value]
    # Tokenizers refuse lone surrogates, which JSON can spell as \ud800.
    encodable = (
        text.encode("utf-8", errors="replace").decode() for text in texts if isinstance(text, str)
    )
    captions = (" ".join(text.split()) for text in encodable)
    return tuple(dict.fromkeys(filter(None, captions)))
