import numpy as np
import pytest
from PIL import Image

from benchmarks.quality.composed_videos import FRAMES_A_SECOND, SIZE, Lengths, compose_videos
from retrieval.media.video import open_video

pytestmark = pytest.mark.slow

COLOURS = [(200, 30, 40), (20, 180, 60), (30, 40, 200), (240, 240, 240)]


def test_each_second_shows_the_photo_that_is_told(tmp_path):
    photos = []
    for number, colour in enumerate([*COLOURS, COLOURS[0]]):
        photos.append(tmp_path / f"{number}.png")
        Image.new("RGB", (200, 150), colour).save(photos[-1])
    made = compose_videos(photos, tmp_path, shots=2, lengths=Lengths(1.0, 1.5, still=2.0))
    assert [[shot.photo for shot in video.shots] for video in made] == [[0, 1], [2, 3]]
    for video in made:
        first, second = video.shots
        assert (first.start_s, first.end_s) == (0, second.start_s)
        assert sorted(shot.end_s - shot.start_s for shot in video.shots)[1] == 2
        with open_video(str(video.path)) as opened:
            frames = [(f.milliseconds / 1000, f.picture()) for f in opened.frames()]
        assert len(frames) == round(second.end_s * FRAMES_A_SECOND)
        for time_s, picture in frames:
            assert picture.size == SIZE
            shown = first if time_s < first.end_s else second
            if min(time_s - shown.start_s, shown.end_s - time_s) > 0.3:
                away = np.asarray(picture, float).mean((0, 1)) - COLOURS[shown.photo]
                assert np.abs(away).max() < 12
