"""Another modality takes a reader, an encoder that knows it, and a line in each of five lists.

Here they are toys: files of numbers, an encoder that hears their pitch, and the lines are added for
a test. Library, catalog, embeddings, exact index and engine are those of the product.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.decode import READERS
from indexer.media.base import Decoded, Locator, Piece, ReadOptions
from indexer.pipeline import index_sources
from indexer.progress import Summary
from retrieval.encoders import modalities
from retrieval.encoders.base import Encoder, Inputs, Pixels, Space, Vectors, cannot_encode
from retrieval.encoders.registry import LOADERS
from retrieval.library import Library, create_library
from retrieval.media import MediaKind, Modality
from retrieval.media import registry as formats
from retrieval.search.engine import Engine
from retrieval.search.query import ItemPart, Query, TextPart

WINDOW = 64
"""Samples a piece; as many as a second has."""


def read_tune(path: str, start: int, _: ReadOptions) -> Decoded:
    """Read the windows of a file of numbers, two a call."""
    windows = np.loadtxt(path, np.float32).reshape(-1, WINDOW)[start : start + 2]
    pieces = [
        Piece(Modality("signal"), window, Locator(f"t{1000 * second}", time_s=float(second)))
        for second, window in enumerate(windows, start)
    ]
    return Decoded(tuple(pieces), next=start + 2 if len(windows) == 2 else None)


class Listener:
    """Hears how many waves a window has, and reads such numbers."""

    space = Space("listener", "none", "none", WINDOW // 2)
    modalities = frozenset({Modality.TEXT})
    context_length = 10
    input_side = 8

    def preprocess(self, image: Image.Image) -> Pixels:
        raise NotImplementedError

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        if modality not in self.modalities:
            raise cannot_encode(self, modality)
        if modality is Modality.TEXT:
            values = np.stack([np.eye(WINDOW // 2)[int(text.split()[0])] for text in inputs])
        else:
            values = np.abs(np.fft.rfft(np.stack(inputs)))[:, : WINDOW // 2]
        return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)

    def token_count(self, text: str) -> int:
        return len(text.split())


def add_member(patch: pytest.MonkeyPatch, kinds: type[StrEnum], value: str) -> StrEnum:
    """Add for a test what a line in the class would add for good."""
    member = str.__new__(kinds, value)
    member._name_, member._value_ = value.upper(), value
    patch.setitem(kinds._value2member_map_, value, member)
    patch.setitem(kinds._member_map_, value.upper(), member)
    patch.setattr(kinds, "_member_names_", [*kinds._member_names_, value.upper()])
    return member


@pytest.fixture
def signal(monkeypatch: pytest.MonkeyPatch) -> Modality:
    modality = add_member(monkeypatch, Modality, "signal")
    kind = add_member(monkeypatch, MediaKind, "signal")
    monkeypatch.setitem(modalities._PIECES, kind, {modality})
    monkeypatch.setattr(formats, "FORMATS", list(formats.FORMATS))
    monkeypatch.setattr(formats, "_by_ending", dict(formats._by_ending))
    formats.register(formats.Format("Tune", kind=kind, endings=(".tune",)))
    monkeypatch.setitem(READERS, kind, read_tune)
    return modality


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tunes"
    folder.mkdir()
    for name, pitches in {"low": [3, 4, 5], "high": [20, 21], "both": [5, 20]}.items():
        time = np.arange(WINDOW) / WINDOW
        np.savetxt(folder / f"{name}.tune", [np.sin(2 * np.pi * p * time) for p in pitches])
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    library = create_library(tmp_path / "library", Listener.space)
    yield library
    library.close()


class _Threads(ThreadPoolExecutor):
    limit_s = 60.0


@pytest.fixture
def index(library: Library, folder: Path) -> Callable[[Encoder], Summary]:
    def run(encoder: Encoder) -> Summary:
        # In this process, since a worker would know nothing of the toys.
        with _Threads(1) as readers:
            changes = {"kinds": frozenset({MediaKind("signal")})}
            return index_sources(library, encoder, [folder], changes=changes, readers=readers)

    return run


def found(engine: Engine, parts: Sequence[object], k: int = 2) -> list[tuple[str, float]]:
    hits = engine.search(Query(tuple(parts), k=k, modality=Modality("signal"))).hits
    return [(Path(hit.path).stem, hit.item.time_s) for hit in hits]


def test_items_of_a_new_modality_are_found_by_text_and_by_item(signal, library, index, monkeypatch):
    encoder = Listener()
    encoder.modalities = frozenset({Modality.TEXT, signal})
    summary = index(encoder)
    assert (summary.added, summary.embedded, summary.failed) == (3, 7, 0)
    assert index(encoder).unchanged == 3
    assert (library.space_directory(encoder.space) / "signal.f16").exists()
    monkeypatch.setitem(LOADERS, "listener", lambda *_: encoder)
    engine = Engine(library, device="cpu")
    assert sorted(found(engine, [TextPart("5 waves")])) == [("both", 0), ("low", 2)]
    assert sorted(found(engine, [TextPart("20 waves")])) == [("both", 1), ("high", 0)]
    [hit] = engine.search(Query((TextPart("4"),), k=1, modality=signal)).hits
    assert (hit.item.modality, hit.item.part) == (signal, "t1000")
    [(name, second), *_] = found(engine, [ItemPart(hit.item.id), TextPart("21")], k=3)
    assert (name, second) in {("low", 1), ("high", 1)}
    assert not engine.search(Query((TextPart("5"),), modality=Modality.IMAGE)).hits


def test_files_of_which_no_encoder_takes_anything_are_left_out_with_advice(signal, library, index):
    summary = index(Listener())
    assert (summary.added, summary.failed) == (0, 0)
    [note] = summary.notes
    assert "3 signal files were left out: no encoder of this library takes signals" in note
    assert "--space new" in note
