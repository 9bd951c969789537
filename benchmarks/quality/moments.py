"""Find moments of videos by captions, and videos by captions and clips, where all is known.

The videos are composed of photos whose captions are asked, and indexed and searched by the code
that users run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.composed_videos import ComposedVideo, Lengths, compose_videos
from indexer.media.video_query import read_query_frames
from indexer.pipeline import index_sources
from indexer.sources import absolute
from retrieval.encoders.base import Encoder
from retrieval.errors import MMSearchError, UsageError
from retrieval.library import Library, create_library
from retrieval.media import Modality
from retrieval.search.answer import Answer
from retrieval.search.engine import Engine
from retrieval.search.query import ImagePart, Query, Reranking, TextPart
from retrieval.training.captions import CaptionedPhoto

FIRST = 10
"""Hits of a page."""

TOLERANCE_S = 1.0
TEMPERATURE = 0.02
"""Of the attention over the shots of a video, in units of cosine similarity."""

_BATCH = 32
_CLIP_LENGTHS = Lengths(1.5, 3.0)

Floats = NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PooledRecall:
    """Share of captions whose video is the first, or among the first five, by pooled shots.

    pooling: `max` (of the similarities of its shots, as `--group` ranks), `attention` or `mean`.
    """

    pooling: str
    recall_at_1: float
    recall_at_5: float


@dataclass(frozen=True)
class MomentsResult:
    """What was found.

    videos, shots, seconds: of the composed videos. items: that were made of them. queries:
    captions. in_shot: share whose best hit lies in the right shot, or within a second of it.
    at_start: share whose best hit begins within a second of the right shot. distinct: mean number
    of shots that the first ten hits show. clips: share of clips, with other movements and lengths
    of half of a video's photos, that find this video first.
    """

    videos: int
    shots: int
    seconds: float
    items: int
    queries: int
    in_shot: float
    at_start: float
    distinct: float
    pooled: tuple[PooledRecall, ...]
    clips: float


def measure_moments(
    photos: Sequence[CaptionedPhoto],
    encoder: Encoder,
    folder: Path,
    *,
    shots: int = 6,
    lengths: Lengths = Lengths(),  # noqa: B008 - it is frozen
    seed: int = 0,
    on_progress: Progress = lambda *_: None,
) -> MomentsResult:
    """Compose videos of photos, index them, and ask all captions of the photos.

    Args:
        photos: What the videos show, in this order.
        encoder: Of the library.
        folder: For the videos and the library.
        shots: Number of shots of a video.
        lengths: Of the shots.
        seed: Of the videos.
        on_progress: Called with stage, done and total.

    Raises:
        UsageError: There are too few photos for a video.
        MissingExtraError: PyAV is not installed.
    """
    if len(photos) < shots:
        raise UsageError(f"A video of {shots} shots needs as many photos, not {len(photos)}.")
    paths = [photo.path for photo in photos]
    for name in ("videos", "clips"):
        (folder / name).mkdir()
    on_progress("compose", 0, len(photos) // shots)
    videos = compose_videos(paths, folder / "videos", shots=shots, lengths=lengths, seed=seed)
    half = max(1, shots // 2)
    of_clips = [paths[shot.photo] for video in videos for shot in video.shots[:half]]
    clips = compose_videos(
        of_clips, folder / "clips", shots=half, lengths=_CLIP_LENGTHS, seed=seed + 1
    )
    library = create_library(folder / "library", encoder.space)
    index_sources(
        library,
        encoder,
        [folder / "videos"],
        on_progress=lambda event: on_progress("index", event.done, event.total or len(videos)),
    )
    engine = Engine(library)
    asked = [
        (caption, number, place)
        for number, video in enumerate(videos)
        for place, shot in enumerate(video.shots)
        for caption in photos[shot.photo].captions
    ]
    answers = list(_ask(engine, [text for text, _, _ in asked], on_progress))
    at = [_shots_of(answer, videos) for answer in answers]
    in_shot = [
        bool(hits) and (number, place) in hits[0]
        for hits, (_, number, place) in zip(at, asked, strict=True)
    ]
    at_start = [
        found and _begins_with(answer, videos[number].shots[place].start_s)
        for found, answer, (_, number, place) in zip(in_shot, answers, asked, strict=True)
    ]
    texts = encoder.encode(Modality.TEXT, [text for text, _, _ in asked])
    vectors, of_video = _vectors(library, videos)
    right = np.array([number for _, number, _ in asked])
    return MomentsResult(
        videos=len(videos),
        shots=sum(len(video.shots) for video in videos),
        seconds=sum(video.shots[-1].end_s for video in videos),
        items=len(vectors),
        queries=len(asked),
        in_shot=float(np.mean(in_shot)),
        at_start=float(np.mean(at_start)),
        distinct=float(np.mean([len({min(each) for each in hits if each}) for hits in at])),
        pooled=tuple(
            PooledRecall(name, *_recalls(pool(texts, vectors, of_video), right))
            for name, pool in POOLINGS.items()
        ),
        clips=_clips_found(engine, clips, videos),
    )


def mean_pooling(queries: Floats, vectors: Floats, of_video: NDArray[np.int64]) -> Floats:
    """Score videos by the mean of the vectors of their shots (CLIP4Clip, arXiv:2104.08860).

    Args:
        queries: (q, d) unit vectors.
        vectors: (n, d) unit vectors of shots.
        of_video: (n,) number of the video of each shot, from 0 without a gap.

    Returns:
        (q, v) cosine similarities.
    """
    return _pooled(queries, vectors, of_video, lambda _, of_one: np.ones((len(queries), of_one)))


def attention_pooling(queries: Floats, vectors: Floats, of_video: NDArray[np.int64]) -> Floats:
    """Score videos by the mean of their shots, weighted by their similarity to the query.

    The weights are softmax(similarity / TEMPERATURE): attention conditioned on the text, as in
    X-Pool (Gorti et al. 2022, arXiv:2203.15086), without its learned projections. Arguments and
    result as those of `mean_pooling`.
    """

    def weights(similarity: Floats, _: int) -> Floats:
        shifted = similarity - similarity.max(axis=1, keepdims=True)
        found: Floats = np.exp(shifted / np.float32(TEMPERATURE))
        return found

    return _pooled(queries, vectors, of_video, weights)


def max_pooling(queries: Floats, vectors: Floats, of_video: NDArray[np.int64]) -> Floats:
    """Score videos by their best shot, as `--group` does; as `mean_pooling`."""
    similarity = queries @ vectors.T
    count = int(of_video.max()) + 1
    return np.stack([similarity[:, of_video == n].max(axis=1) for n in range(count)], axis=1)


POOLINGS = {"max": max_pooling, "attention": attention_pooling, "mean": mean_pooling}


def _pooled(
    queries: Floats,
    vectors: Floats,
    of_video: NDArray[np.int64],
    weights_of: Callable[[Floats, int], NDArray[Any]],
) -> Floats:
    scores = []
    for number in range(int(of_video.max()) + 1):
        own = vectors[of_video == number]
        pooled = weights_of(queries @ own.T, len(own)) @ own
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        scores.append((queries * pooled).sum(axis=1))
    return np.stack(scores, axis=1).astype(np.float32)


def _recalls(scores: Floats, right: NDArray[np.int64]) -> tuple[float, float]:
    order = np.argsort(-scores, axis=1, kind="stable")
    is_right = order == right[:, None]
    return float(is_right[:, :1].any(axis=1).mean()), float(is_right[:, :5].any(axis=1).mean())


def _ask(engine: Engine, texts: Sequence[str], on_progress: Progress) -> Iterator[Answer]:
    for first in range(0, len(texts), _BATCH):
        on_progress("ask", first, len(texts))
        some = texts[first : first + _BATCH]
        requests = [(Query((TextPart(text),), k=FIRST), Reranking("none")) for text in some]
        for answer in engine.search_many(requests):
            if isinstance(answer, MMSearchError):
                raise answer
            yield answer


def _shots_of(answer: Answer, videos: Sequence[ComposedVideo]) -> list[set[tuple[int, int]]]:
    """List the shots that each hit shows, or nearly: number of the video, place in it."""
    numbers = {absolute(video.path): number for number, video in enumerate(videos)}
    found = []
    for hit in answer:
        number, time_s = numbers[hit.path], hit.item.time_s or 0.0
        near = {
            (number, place): max(shot.start_s - time_s, time_s - shot.end_s)
            for place, shot in enumerate(videos[number].shots)
        }
        found.append({shot for shot, away in near.items() if away <= TOLERANCE_S})
    return found


def _begins_with(answer: Answer, start_s: float) -> bool:
    start = answer[0].item.start_s
    return start is not None and abs(start - start_s) <= TOLERANCE_S


def _vectors(library: Library, videos: Sequence[ComposedVideo]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the exact vectors of all shots, (n, d), and the number of the video of each."""
    space = library.space()
    numbers = {absolute(video.path): number for number, video in enumerate(videos)}
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, Modality.IMAGE)
        at = snapshot.items_at(space.id, Modality.IMAGE, range(count))
    pairs = [(row, numbers[item.path]) for row, items in at.items() for item in items]
    stored = library.embeddings(space, Modality.IMAGE).rows(count)
    vectors: Floats = np.asarray(stored[[row for row, _ in pairs]], np.float32)
    return vectors, np.array([number for _, number in pairs])


def _clips_found(
    engine: Engine, clips: Sequence[ComposedVideo], videos: Sequence[ComposedVideo]
) -> float:
    found = []
    for clip, video in zip(clips, videos, strict=True):
        frames = read_query_frames(clip.path)
        parts = tuple(ImagePart(frame, 1 / len(frames)) for frame in frames)
        query = Query(parts, k=1, group_by_file=True)
        answer = engine.search(query, Reranking("none"))
        found.append(answer[0].path == absolute(video.path))
    return float(np.mean(found))


def moments_markdown(result: MomentsResult) -> str:
    """Write the figures as Markdown tables."""
    lines = [
        f"{result.videos} videos of {result.shots} shots, {result.seconds:.0f} s: "
        f"{result.items} items; {result.queries} captions asked",
        "",
        "| best hit in its shot | begins with it | shots in the first 10 | clips that find their "
        "video |",
        "| ---: | ---: | ---: | ---: |",
        f"| {result.in_shot:.1%} | {result.at_start:.1%} | {result.distinct:.1f} | "
        f"{result.clips:.1%} |",
        "",
        "| video by its shots | R@1 | R@5 |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| {each.pooling} | {each.recall_at_1:.1%} | {each.recall_at_5:.1%} |"
        for each in result.pooled
    ]
    return "\n".join(lines)
