import os
import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.media.video import Choice, frame_at, open_video

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (30, 40, 200)


def write_video(
    path: Path, pictures: Iterable[Image.Image], codec: str = "mpeg4", rate: int = 5, gop: int = 10
) -> Path:
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        stream.bit_rate = 2_000_000
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.width, stream.height = picture.size
            frame = av.VideoFrame.from_image(picture)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scenes(*colours: tuple[int, int, int], frames_each: int = 10) -> list[Image.Image]:
    return [Image.new("RGB", (64, 48), colour) for colour in colours for _ in range(frames_each)]


def colour_of(image: Image.Image) -> tuple[float, ...]:
    return tuple(np.asarray(image, float).mean(axis=(0, 1)))


def is_near(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.subtract(colour_of(image), colour)).max() < 25)


@pytest.fixture
def traffic_light(tmp_path: Path) -> Path:
    """Red from 0 s, green from 2 s, blue from 4 s to 6 s; five frames a second."""
    return write_video(tmp_path / "light.mp4", scenes(RED, GREEN, BLUE))


@pytest.mark.parametrize(
    ("time_s", "colour"),
    [(0, RED), (1.99, RED), (2.0, GREEN), (3.9, GREEN), (4.0, BLUE), (1_000, BLUE), (-3, RED)],
)
def test_frame_is_the_one_shown_at_the_time(traffic_light, time_s, colour):
    image = frame_at(str(traffic_light), time_s)
    assert image.mode == "RGB"
    assert image.size == (64, 48)
    assert is_near(image, colour)


@pytest.mark.parametrize(
    ("ending", "codec", "rate"),
    [
        ("mkv", "mpeg4", 5),
        ("webm", "libvpx-vp9", 5),
        ("avi", "mjpeg", 5),
        ("mov", "libx264", 5),
        ("mpg", "mpeg2video", 25),
        ("mts", "libx264", 5),
        ("flv", "flv1", 5),
        ("wmv", "wmv2", 5),
    ],
)
def test_every_container_gives_its_frames_at_their_times(tmp_path, ending, codec, rate):
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder for {codec} here")
    path = tmp_path / f"video.{ending}"
    write_video(path, scenes(RED, GREEN, BLUE, frames_each=20 * rate), codec, rate)
    assert is_near(frame_at(str(path), 19.0), RED)
    assert is_near(frame_at(str(path), 21.5), GREEN)
    assert is_near(frame_at(str(path), 58.0), BLUE)


def test_decoding_from_anywhere_gives_the_same_frames(tmp_path):
    ramp = [Image.new("RGB", (64, 48), (4 * n, 90, 250 - 4 * n)) for n in range(60)]
    path = write_video(tmp_path / "ramp.mp4", ramp, "libx264", gop=7)
    with open_video(str(path)) as video:
        whole = {f.milliseconds: f.picture().tobytes() for f in video.frames()}
    assert list(whole) == list(range(0, 12_000, 200))
    for start in (0, 200, 1_100, 4_200, 7_777, 11_800):
        with open_video(str(path)) as video:
            later = [f for f in video.frames(start) if f.milliseconds >= start]
            assert [f.milliseconds for f in later] == [ms for ms in whole if ms >= start]
            assert all(f.picture().tobytes() == whole[f.milliseconds] for f in later)


def test_sampled_moment_gives_the_sampled_frame(tmp_path):
    greys = [Image.new("RGB", (32, 32), (8 * n, 8 * n, 8 * n)) for n in range(31)]
    path = write_video(tmp_path / "thirds.mp4", greys, rate=30, gop=5)
    with open_video(str(path)) as video:
        for frame in video.frames():
            again = frame_at(str(path), frame.milliseconds / 1000)
            assert again.tobytes() == frame.picture().tobytes()


def with_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    one = 65_536
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 2**30)
    content[place : place + 36] = struct.pack(">9i", *matrix)
    turned = path.with_name("turned.mp4")
    turned.write_bytes(content)
    return turned


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), "left top"),
        ((0, 1, -1, 0), "right top"),
        ((-1, 0, 0, -1), "right bottom"),
        ((0, -1, 1, 0), "left bottom"),
        ((-1, 0, 0, 1), "right top"),
        ((1, 0, 0, -1), "left bottom"),
        ((0, 1, 1, 0), "left top"),
        ((0, -1, -1, 0), "right bottom"),
    ],
)
def test_frames_are_turned_upright(tmp_path, matrix, corner):
    picture = Image.new("RGB", (64, 32), BLUE)
    picture.paste(RED, (0, 0, 16, 16))
    plain = write_video(tmp_path / "plain.mp4", [picture] * 5)
    image = frame_at(str(with_display_matrix(plain, *matrix)), 0)
    swapped = matrix[0] == 0
    assert image.size == ((32, 64) if swapped else (64, 32))
    across, down = corner.split()
    x = 4 if across == "left" else image.width - 12
    y = 4 if down == "top" else image.height - 12
    assert is_near(image.crop((x, y, x + 8, y + 8)), RED)


def test_turn_by_an_odd_angle_is_left_alone(tmp_path):
    plain = write_video(tmp_path / "plain.mp4", scenes(RED))
    content = bytearray(plain.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", *([2**31 - 1] * 8), -(2**31))
    plain.write_bytes(content)
    assert is_near(frame_at(str(plain), 0), RED)


def test_wide_pixels_are_made_square(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(stream.encode(av.VideoFrame.from_image(scenes(RED)[0])))
        container.mux(stream.encode())
    assert frame_at(str(path), 0).size == (128, 48)


@pytest.mark.parametrize("gop", [10, 50])
def test_index_tells_how_dense_keyframes_are(tmp_path, gop):
    path = write_video(tmp_path / "video.mkv", scenes(RED, frames_each=100), gop=gop)
    with open_video(str(path)) as video:
        assert video.keyframes_at_least_every(3.0) is (gop == 10)
        keys = [f.milliseconds for f in video.frames(0, Choice.KEYFRAMES)]
    assert keys == list(range(0, 20_000, gop * 200))


def write_audio(path: Path) -> Path:
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.sample_rate = 44_100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return path


def test_file_of_sound_alone_has_no_video(tmp_path):
    with pytest.raises(UnreadableFileError, match="has no video"):
        frame_at(str(write_audio(tmp_path / "sound.mp4")), 0)


def test_cover_of_music_is_no_video(tmp_path):
    path = tmp_path / "music.mp4"
    with av.open(os.fspath(path), "w") as container:
        sound = container.add_stream("aac", rate=44_100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.sample_rate = 44_100
        container.mux(cover.encode(av.VideoFrame.from_image(scenes(RED)[0])))
        container.mux(cover.encode())
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    with pytest.raises(UnreadableFileError, match="has no video"):
        frame_at(str(path), 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"GIF89a no video", "cannot be opened as a video"),
        (os.urandom(5_000), "cannot be opened as a video"),
    ],
)
def test_what_is_no_video_is_refused_with_its_reason(tmp_path, content, reason):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=reason):
        frame_at(str(path), 0)


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        frame_at(str(tmp_path / "none.mp4"), 0)


def test_video_without_its_end_gives_the_frames_before(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "video.mkv", map(Image.fromarray, noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_video(str(path)) as video:
        count = sum(1 for _ in video.frames())
    assert 30 <= count <= 70


def test_damage_in_the_middle_is_noted_and_passed_over(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "video.avi", map(Image.fromarray, noise), "mjpeg")
    content = bytearray(path.read_bytes())
    middle = content.index(b"\xff\xda", len(content) // 2)
    content[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    with open_video(str(path)) as video:
        times = [frame.milliseconds for frame in video.frames()]
        assert video.damage
    assert 50 <= len(times) < 100


def test_large_frames_are_refused_by_the_header(traffic_light):
    with open_video(str(traffic_light), max_pixels=64 * 48):
        pass
    with (
        pytest.raises(UnreadableFileError, match=r"64 x 48 .* 0\.003 megapixels"),
        open_video(str(traffic_light), max_pixels=3_000),
    ):
        pass


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nsecret.ts\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile secret.ts\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlist_cannot_make_the_reader_open_another_file(tmp_path, name):
    write_video(tmp_path / "secret.ts", scenes(RED), "mpeg2video", rate=25)
    playlist = tmp_path / name
    playlist.write_text(PLAYLISTS[name])
    with av.open(os.fspath(playlist)) as unguarded:
        assert next(unguarded.decode(video=0)).width == 64
    with pytest.raises(UnreadableFileError, match="cannot be opened as a video"):
        frame_at(str(playlist), 0)


def test_playlist_cannot_make_the_reader_call_an_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        playlist = tmp_path / "list.m3u8"
        playlist.write_text(
            PLAYLISTS["list.m3u8"].replace("secret.ts", f"http://127.0.0.1:{port}/secret.ts")
        )
        with pytest.raises(UnreadableFileError, match="cannot be opened as a video"):
            frame_at(str(playlist), 0)
        with pytest.raises(TimeoutError):
            server.accept()


def test_path_that_looks_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "video.mp4", scenes(RED)).rename(tmp_path / "concat:a|b.mp4")
    assert is_near(frame_at("concat:a|b.mp4", 0), RED)


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_name_need_not_be_valid_text(tmp_path, traffic_light):
    odd = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    traffic_light.rename(odd)
    assert is_near(frame_at(str(odd), 0), RED)


def test_missing_package_says_how_to_get_it(traffic_light, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"Videos need .*mmsearch\[video\]"):
        frame_at(str(traffic_light), 0)
