"""Objects that were read whole, in memory or in a file, can be opened several times."""

import io
import threading

import pytest

from retrieval.errors import UnreadableFileError
from retrieval.objects import fetched
from retrieval.objects.fetched import Fetcher

CONTENT = bytes(range(256)) * 64


@pytest.fixture(params=["memory", "file"])
def held(request, monkeypatch):
    if request.param == "file":
        monkeypatch.setattr(fetched, "IN_MEMORY_BYTES", 1000)
    fetcher = Fetcher()
    for start in range(0, len(CONTENT), 700):
        fetcher.write(CONTENT[start : start + 700])
    return fetcher.done()


def test_readers_have_places_of_their_own(held):
    with held.open() as one, held.open() as other:
        assert one.read(10) == CONTENT[:10]
        assert other.seek(-5, io.SEEK_END) == len(CONTENT) - 5
        assert other.read() == CONTENT[-5:]
        assert one.read() == CONTENT[10:]
        assert one.tell() == len(CONTENT)
    assert held.size == len(CONTENT)
    with held.part(100, 50) as part:
        assert part.read() == CONTENT[100:150]
        assert part.seek(0) == 0
        assert part.read(3) == CONTENT[100:103]


def test_threads_may_read_at_once(held):
    read = []

    def look():
        with held.open() as file:
            read.append(b"".join(iter(lambda: file.read(97), b"")))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [CONTENT] * 8


def test_a_place_before_the_beginning_is_refused(held):
    with held.open() as file, pytest.raises((OSError, ValueError)):
        file.seek(-1)


def test_what_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(fetched, "MOST_BYTES", 10)
    fetcher = Fetcher()
    fetcher.write(b"0123456789")
    with pytest.raises(UnreadableFileError, match="larger than"):
        fetcher.write(b"x")
