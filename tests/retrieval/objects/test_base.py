"""What a status says where a server says nothing."""

from retrieval.media import UNTRUSTED_MTIME, is_as_read
from retrieval.objects.base import UNKNOWN_TIME, FileStatus
from retrieval.objects.remote import RemoteFolder
from retrieval.objects.shards import Shard


def test_a_time_that_is_not_told_is_not_trusted():
    assert UNKNOWN_TIME == UNTRUSTED_MTIME
    assert FileStatus(3) == (3, UNTRUSTED_MTIME, None)
    assert is_as_read(FileStatus(3, 7), 3, 7)
    assert not is_as_read(FileStatus(3, 7), 3, 8)


def test_all_kinds_of_sources_offer_the_same():
    for kind in (RemoteFolder, Shard):
        assert all(callable(getattr(kind, name)) for name in ("list", "stat", "open"))
