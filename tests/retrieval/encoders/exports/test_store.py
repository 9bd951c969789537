"""Exports are found by name and weights; what is half written or outdated is not used."""

import json
import shutil
from dataclasses import replace

import pytest

from retrieval.encoders.exports import store
from retrieval.encoders.exports.store import (
    Measured,
    Rates,
    canonical_name,
    choose_export,
    find_export,
    list_exports,
    new_export,
    read_export,
    remove_directory,
    write_card,
)


def measured(ratio):
    rates = Rates(10.0 * ratio, 5.0), Rates(10.0, 5.0)
    return Measured(*rates, threads=1, batch_size=8, batches=5, versions={"torch": "1"})


def test_names_are_spelt_as_spaces_spell_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").touch()
    assert canonical_name("local-dir:x") == f"local-dir:{tmp_path}/x"
    assert canonical_name("open_clip:ViT-B-32/mine.pt") == f"open_clip:ViT-B-32/{tmp_path}/mine.pt"
    quantised = canonical_name("open_clip:ViT-B-32/mine.pt@int8")
    assert quantised == f"open_clip:ViT-B-32/{tmp_path}/mine.pt@int8"
    assert canonical_name("open_clip:ViT-B-32/openai") == "open_clip:ViT-B-32/openai"


def test_what_is_written_is_read(exported):
    changed = replace(exported, measured=measured(2))
    write_card(changed)
    assert read_export(exported.directory) == changed
    assert exported.bytes > 1000


def test_an_export_is_found_by_its_weights(both):
    exported, quantised = both
    name, weights = exported.space.encoder, exported.space.weights
    assert find_export(name, weights) == exported
    assert find_export(name, "xxh3-128:00") is None
    assert find_export(f"{name}@int8") == quantised
    assert find_export("open_clip:ViT-B-32/openai") is None
    assert list_exports() == [exported, quantised]


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card | {"format": "mmsearch-export-0"},
        lambda card: card | {"unknown": 1},
        lambda card: {key: value for key, value in card.items() if key != "files"},
        lambda card: [card],
    ],
)
def test_a_card_that_cannot_be_read_is_no_export(change, exported):
    file = exported.directory / "export.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    assert read_export(exported.directory) is None
    file.write_text(file.read_text()[:50])
    assert find_export(exported.space.encoder) is None


def test_a_changed_checkpoint_is_not_answered_by_its_old_export(exported, tmp_path):
    file = tmp_path / "checkpoint"
    file.write_text("old")
    sources = {str(file): [3, file.stat().st_mtime_ns]}
    write_card(replace(exported, sources=sources))
    name, weights = exported.space.encoder, exported.space.weights
    assert find_export(name) is not None
    file.write_text("newer")
    assert find_export(name) is None
    # A library names the weights that it was made with: these are still those.
    assert find_export(name, weights) is not None
    file.unlink()
    assert find_export(name) is None


def test_the_runtime_follows_measurement_and_device(both, monkeypatch):
    exported, quantised = both
    name = exported.space.encoder
    for ratio, device, is_used in (
        (1.2, "cpu", True),
        (0.9, "cpu", False),
        (1.2, "cuda", False),
        (1.2, "cuda:1", False),
        (0.9, "coreml", True),
    ):
        write_card(replace(exported, measured=measured(ratio)))
        assert (choose_export(name, device) is not None) == is_used, (ratio, device)
        assert choose_export(f"{name}@int8", device) == quantised
    monkeypatch.setattr(store, "has_pytorch", lambda: False)
    assert choose_export(name, "cuda") is not None


def test_what_fails_leaves_nothing(tiny_encoder, cache):
    def interrupt():
        with new_export(tiny_encoder.space) as directory:
            (directory / "export.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert [path.name for path in cache.iterdir()] == ["writer.lock"]


def test_what_a_killed_process_left_is_neither_read_nor_kept(exported, cache):
    left = cache / f"{exported.space.id}.12345678.new"
    shutil.copytree(exported.directory, left)
    remove_directory(exported.directory)
    assert list_exports() == []
    with new_export(exported.space) as directory:
        assert not left.exists()
        write_card(replace(exported, directory=directory))
    [found] = list_exports()
    assert found.directory.name == exported.space.id
