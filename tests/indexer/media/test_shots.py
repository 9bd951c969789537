import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from indexer.media import shots
from indexer.media.shots import LONGEST_MS, SHORTEST_MS, find_shots
from retrieval.media.video import Frame

COLOURS = [(200, 30, 40), (20, 180, 60), (30, 40, 200), (240, 240, 240), (10, 10, 10)]
SCALER = VideoReformatter()
DECODED = [av.VideoFrame.from_image(Image.new("RGB", (16, 16), colour)) for colour in COLOURS]


def pattern(seed: int, *, brightness: float = 1.0) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = (brightness * random.integers(0, 256, (6, 8, 3))).astype(np.uint8)
    return Image.fromarray(coarse).resize((128, 96), Image.Resampling.NEAREST)


def as_frames(pictures: list[Image.Image], step_ms: int = 200) -> list[Frame]:
    return [
        Frame(n * step_ms, av.VideoFrame.from_image(picture), SCALER)
        for n, picture in enumerate(pictures)
    ]


def limits(frames: list[Frame]) -> list[tuple[int, int | None]]:
    return [(shot.start_ms, shot.end_ms) for shot in find_shots(frames)]


@given(
    moments=st.lists(
        st.tuples(st.integers(0, 90_000), st.integers(0, len(COLOURS) - 1)), max_size=60
    ),
    place=st.integers(0, 60),
)
def test_shots_do_not_depend_on_those_before(moments, place):
    frames = [Frame(moment, DECODED[colour], SCALER) for moment, colour in sorted(moments)]
    whole = list(find_shots(frames))
    first = place % max(1, len(whole))
    start = whole[first].start_ms if whole else 0
    assert list(find_shots(frames, start)) == whole[first:]
    assert [shot.end_ms for shot in whole[:-1]] == [shot.start_ms for shot in whole[1:]]
    for shot in whole:
        assert shot.start_ms <= shot.frame.milliseconds
        assert shot.end_ms is None or shot.frame.milliseconds < shot.end_ms
        assert shot.end_ms is None or shot.end_ms - shot.start_ms >= SHORTEST_MS


def test_times_that_do_not_grow_are_passed_over():
    times = [0, 5_000, 3_000, 5_000, 20_000, 1_000, 40_000]
    frames = [Frame(t, DECODED[n % 5], SCALER) for n, t in enumerate(times)]
    assert [shot.start_ms for shot in find_shots(frames)] == [0, 5_000, 20_000, 40_000]


@pytest.mark.parametrize("brightness", [1.0, 0.2])
def test_shots_end_at_cuts_and_in_the_middle_of_fades_in_dark_scenes_too(brightness):
    a, b, c = (pattern(n, brightness=brightness) for n in range(3))
    fade = [Image.blend(b, c, share) for share in (0.2, 0.4, 0.6, 0.8)]
    frames = as_frames([a] * 15 + [b] * 15 + fade + [c] * 15)
    (_, cut), (_, faded), (_, end) = limits(frames)
    assert cut == 3_000
    assert 6_200 <= faded <= 6_600
    assert end is None


def test_noise_and_a_moving_camera_end_no_shot():
    wide = pattern(1).resize((256, 192))
    random = np.random.default_rng(0)
    pictures = []
    for n in range(25):
        moved = np.asarray(wide.crop((n, 20, n + 128, 116)), float)
        noisy = np.clip(moved + random.normal(0, 12, moved.shape), 0, 255)
        pictures.append(Image.fromarray(noisy.astype(np.uint8)))
    assert len(limits(as_frames(pictures))) == 1


def test_best_frame_is_sharp_and_no_blend():
    a, b = pattern(1), pattern(2)
    blurred = a.filter(ImageFilter.GaussianBlur(6))
    mixed = Image.blend(a, b, 0.5)
    pictures = [mixed, blurred, blurred, a, a, a, mixed]
    [shot] = find_shots(as_frames(pictures))
    assert shot.frame.milliseconds in {600, 800, 1000}


def test_small_changes_end_long_shots_and_time_ends_them_in_any_case():
    slide = pattern(1)
    changed = slide.copy()
    changed.paste((255, 255, 255), (0, 0, 64, 48))
    frames = as_frames([slide] * 15 + [changed] * 300, 2_000)
    times = [start for start, _ in limits(frames)]
    assert times[:2] == [0, 30_000]
    assert times[2:] == list(range(30_000 + LONGEST_MS, 630_000, LONGEST_MS))


def test_few_frames_are_held_however_long_a_shot_is_and_however_large(monkeypatch):
    held = []
    best = shots._OpenShot.best

    def counted(shot):
        held.append(len(shot._held))
        return best(shot)

    monkeypatch.setattr(shots._OpenShot, "best", counted)
    list(find_shots(as_frames([pattern(1)] * 300)))
    monkeypatch.setattr(shots, "_HELD_PIXELS", 128 * 96)
    list(find_shots(as_frames([pattern(1)] * 300)))
    long, large = held
    assert 4 <= long <= 8
    assert large == 2
