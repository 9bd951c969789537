import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from retrieval.errors import NotFoundError, UsageError
from retrieval.training.encoders.pairs import decoded_batches
from retrieval.training.encoders.webdataset_pairs import WebDatasetPairs, captions_of, find_shards

pytest.importorskip("webdataset")


def png(red: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_shard(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            shard.addfile(header, io.BytesIO(data))
    return path


def numbered(start: int, count: int) -> list[tuple[str, bytes]]:
    return [
        member
        for n in range(start, start + count)
        for member in ((f"{n:03}.png", png(n)), (f"{n:03}.txt", f"number {n}\n".encode()))
    ]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(4):
        write_shard(tmp_path / f"part-{number}.tar", numbered(10 * number, 10))
    return tmp_path


def drawn(source: WebDatasetPairs, epoch: int = 0, size: int = 5, **part: int) -> list[list[str]]:
    return [[pair.caption for pair in batch] for batch in source.batches(epoch, size, **part)]


def red(image: Image.Image) -> Tensor:
    return pil_to_tensor(image)[0, 0, :1]


def test_an_epoch_is_each_sample_once_with_its_own_image(shards: Path) -> None:
    source = WebDatasetPairs(str(shards))
    batches = list(decoded_batches(source, 0, 8, red, damaged=source.damaged))
    assert [len(batch.captions) for batch in batches] == [8] * 5
    reds = torch.cat([batch.images[:, 0] for batch in batches]).tolist()
    captions = [caption for batch in batches for caption in batch.captions]
    assert captions == [f"number {n}" for n in reds]
    assert sorted(reds) == list(range(40))
    assert len(source.damaged) == 0


def test_the_order_is_one_of_seed_and_epoch(shards: Path) -> None:
    first = drawn(WebDatasetPairs(str(shards), seed=1), 2)
    assert drawn(WebDatasetPairs(str(shards), seed=1), 2) == first
    assert drawn(WebDatasetPairs(str(shards), seed=1), 3) != first
    assert drawn(WebDatasetPairs(str(shards), seed=2), 2) != first
    # Samples of several shards meet in a batch.
    assert len({int(caption.split()[1]) // 10 for caption in first[0]}) > 1
    near = drawn(WebDatasetPairs(str(shards), seed=1, buffer=1), 2)
    assert len({int(caption.split()[1]) // 10 for caption in near[0]}) == 1


def test_processes_read_shards_of_their_own_and_equal_numbers(shards: Path) -> None:
    source = WebDatasetPairs(str(shards), size=40)
    parts = [drawn(source, 1, 8, rank=rank, world=2) for rank in range(2)]
    assert [[len(batch) for batch in part] for part in parts] == [[4] * 5] * 2
    seen = [{caption for batch in part for caption in batch} for part in parts]
    assert len(seen[0] | seen[1]) == 40
    with pytest.raises(UsageError, match="as many shards; there are 4"):
        drawn(source, 0, 10, rank=0, world=5)
    with pytest.raises(UsageError, match="how many make an epoch"):
        drawn(WebDatasetPairs(str(shards)), 0, 10, rank=0, world=2)


def test_a_size_takes_as_many_rounds_as_it_needs(shards: Path) -> None:
    source = WebDatasetPairs(str(shards), size=100)
    batches = drawn(source, 0, 10)
    assert len(batches) == 10
    assert len({caption for batch in batches[:4] for caption in batch}) == 40
    with pytest.raises(UsageError, match="no batch of 101"):
        drawn(source, 0, 101)


def test_patterns_folders_and_files_name_shards(shards: Path) -> None:
    all_four = [str(shards / f"part-{n}.tar") for n in range(4)]
    assert find_shards(str(shards)) == all_four
    assert find_shards(f"{shards}/part-{{0..3}}.tar") == all_four
    assert find_shards(f"{shards}/part-{{0,2}}.tar") == all_four[::2]
    assert find_shards(all_four[0]) == all_four[:1]
    assert find_shards("HTTPS://Example.org/a-{0,1}.tar") == [
        "https://example.org/a-0.tar",
        "https://example.org/a-1.tar",
    ]


@pytest.mark.parametrize(
    ("pattern", "error", "reason"),
    [
        ("{folder}/part-{{0..9}}.tar", NotFoundError, r"no shard at .*part-4\.tar"),
        ("{folder}/elsewhere", NotFoundError, "no shard at"),
        ("{folder}/{{0..99}}.tar", UsageError, "more than 50 shards"),
        ("{folder}/{{0..", UsageError, "braces"),
        ("pipe:touch {folder}/executed; cat {folder}/part-0.tar", UsageError, "is no path"),
        ("file:{folder}/part-0.tar", UsageError, "is no path"),
        ("https://user:secret@example.org/a.tar", UsageError, "user name or a password"),
    ],
)
def test_what_names_no_shard_is_an_error(
    shards: Path,
    pattern: str,
    error: type[Exception],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("retrieval.training.encoders.webdataset_pairs._MOST_SHARDS", 50)
    with pytest.raises(error, match=reason):
        WebDatasetPairs(pattern.format(folder=shards))
    assert not (shards / "executed").exists()


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no \.tar file"):
        find_shards(str(tmp_path))


@pytest.mark.parametrize("name", ["size", "buffer"])
def test_a_setting_out_of_range_is_an_error(shards: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be at least 1"):
        WebDatasetPairs(str(shards), **{name: 0})


def test_a_server_that_the_user_never_named_is_not_asked() -> None:
    source = WebDatasetPairs("http://127.0.0.1:1/a.tar")
    with pytest.raises(UsageError, match="you have never named it"):
        drawn(source)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)  # type: ignore[return-value]

    attack = pickle.dumps(Attack())
    members = [(f"a.{ending}", attack) for ending in ("pyd", "pickle", "pkl", "pth", "pt", "npy")]
    write_shard(tmp_path / "a.tar", [*members, ("a.png", png(1)), ("a.txt", b"red")])
    assert drawn(WebDatasetPairs(str(tmp_path)), size=1) == [["red"]]
    assert not (tmp_path / "executed").exists()


def test_names_that_lead_out_of_a_shard_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for kind, name in ((tarfile.SYMTYPE, "b.txt"), (tarfile.LNKTYPE, "c.txt")):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, str(tmp_path / "outside.txt")
            shard.addfile(header)
        for name, data in [("../d.png", png(1)), ("../d.txt", b"up"), *numbered(0, 1)]:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            shard.addfile(header, io.BytesIO(data))
    assert drawn(WebDatasetPairs(str(tmp_path)), size=1) == [["number 0"]]


def test_damaged_members_and_shards_are_noted_and_the_rest_read(shards: Path) -> None:
    write_shard(
        shards / "part-4.tar",
        [
            ("no-caption.png", png(1)),
            ("no-image.txt", b"words"),
            ("no-text.png", png(1)),
            ("no-text.txt", b"\xff\xfe\xff"),
            ("no-json.png", png(1)),
            ("no-json.json", b"[1]"),
            ("nested.png", png(1)),
            ("nested.json", b"[" * 100_000),
            ("no-pixels.png", b"no image"),
            ("no-pixels.txt", b"damaged"),
            ("twice.png", png(1)),
            ("twice.PNG", png(2)),
            ("twice.txt", b"twice"),
        ],
    )
    cut = (shards / "part-0.tar").read_bytes()
    (shards / "part-5.tar").write_bytes(cut[:1500])
    (shards / "part-6.tar").write_bytes(b"no tar file")
    (shards / "part-7.tar").write_bytes(gzip.compress(cut))
    source = WebDatasetPairs(str(shards))
    batches = list(decoded_batches(source, 0, 42, red, damaged=source.damaged))
    captions = {caption for batch in batches for caption in batch.captions}
    assert {f"number {n}" for n in range(40)} <= captions
    assert captions <= {f"number {n}" for n in range(40)} | {"twice"}
    assert len(source.damaged) == 6 + 1 + 3
    assert "part-5.tar" in str(source.damaged) or "more" in str(source.damaged)


def test_a_shard_that_ends_in_a_member_gives_those_before(tmp_path: Path) -> None:
    whole = write_shard(tmp_path / "a.tar", [*numbered(0, 2), ("9.png", png(9) + bytes(9000))])
    whole.write_bytes(whole.read_bytes()[: 512 * 10 + 7])
    source = WebDatasetPairs(str(tmp_path))
    [batch] = drawn(source, size=2)
    assert sorted(batch) == ["number 0", "number 1"]
    assert "a.tar: [Errno 5] it is no whole tar file" in str(source.damaged)


def test_shards_without_a_pair_are_an_error_that_tells_why(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("a.png", png(1))])
    for size in (None, 10):
        with pytest.raises(UsageError, match=r"no pair .*a\.tar.*it has no caption"):
            drawn(WebDatasetPairs(str(tmp_path), size=size), size=2)


def test_captions_of_text_and_json_are_joined() -> None:
    body = {"caption": "one", "captions": ["two", " one ", "", 3], "text": None, "license": "x"}
    sample = {"txt": b"\xef\xbb\xbfa red\n square ", "json": json.dumps(body).encode()}
    assert captions_of(sample) == ("a red square", "two", "one")


def test_one_of_several_captions_is_drawn_each_epoch(tmp_path: Path) -> None:
    body = json.dumps({"captions": ["one", "two", "three"]}).encode()
    write_shard(tmp_path / "a.tar", [("a.png", png(1)), ("a.json", body)])
    source = WebDatasetPairs(str(tmp_path))
    assert {drawn(source, epoch)[0][0] for epoch in range(30)} == {"one", "two", "three"}


def test_the_digest_changes_with_shards_and_settings(shards: Path) -> None:
    digests = {
        WebDatasetPairs(str(shards)).digest,
        WebDatasetPairs(str(shards), seed=1).digest,
        WebDatasetPairs(str(shards), size=10).digest,
        WebDatasetPairs(str(shards / "part-0.tar")).digest,
    }
    write_shard(shards / "part-0.tar", numbered(0, 30))
    digests.add(WebDatasetPairs(str(shards)).digest)
    assert len(digests) == 5


def test_shards_may_be_named_one_by_one(shards: Path) -> None:
    """In braces that are longer than the name of a file may be."""
    names = ",".join(["part-1", "part-3"] * 30)
    assert len(find_shards(f"{shards}/{{{names}}}.tar")) == 60
    with pytest.raises(NotFoundError):
        find_shards(f"{shards}/{'a' * 300}.tar")


def test_lone_surrogates_are_replaced() -> None:
    assert captions_of({"json": b'{"text": "a \\ud800 cat"}'}) == ("a ? cat",)
