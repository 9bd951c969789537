"""`mmsearch bench throughput`, `memory` and `indexers` as users call them."""

import json

import pytest

from retrieval.errors import NotFoundError, UsageError


@pytest.mark.parametrize("sizes", ["0", "101", "x", ",", "2,-1", "nan"])
def test_sizes_of_photos_that_cannot_be_made_are_refused(run, picture_folder, sizes):
    with pytest.raises(UsageError, match=r"--megapixels takes comma-separated numbers from 0\.001"):
        raise run("throughput", picture_folder, "--megapixels", sizes).exception


@pytest.mark.parametrize("images", ["0", "5000,x", ""])
def test_numbers_of_images_that_are_none_are_refused(run, images):
    with pytest.raises(UsageError, match="--images takes comma-separated integers from 1"):
        raise run("memory", "--images", images).exception


@pytest.mark.parametrize("option", ["--rclip", "--rclip-models", "--clip-retrieval"])
def test_a_program_that_is_not_there_is_told_before_anything_is_measured(
    run, picture_folder, option
):
    with pytest.raises(NotFoundError, match="There is nothing at nowhere"):
        raise run("indexers", picture_folder, option, "nowhere").exception


@pytest.mark.slow
def test_throughput_is_measured_at_each_size(run, picture_folder, tiny_checkpoint):
    result = run(
        *("throughput", picture_folder, "--encoder", f"local-dir:{tiny_checkpoint}"),
        *("--megapixels", "0.002,0.004", "--limit", 2, "--rounds", 1, "--workers", 1, "--json"),
    )
    assert result.exit_code == 0, result.output
    sizes = json.loads(result.stdout)["sizes"]
    assert [(size["megapixels"], size["images"]) for size in sizes] == [(0.002, 2), (0.004, 2)]
    assert "round 1: " in result.stderr


@pytest.mark.slow
def test_encoders_are_compared_in_turn(run, picture_folder, tiny_checkpoint, other_checkpoint):
    names = [f"local-dir:{path}" for path in (tiny_checkpoint, other_checkpoint)]
    result = run(
        *("throughput", picture_folder, "--encoder", names[0], "--encoder", f"{names[1]}@bf16"),
        *("--limit", 2, "--rounds", 1, "--workers", 1),
    )
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[-2:]
    assert first.split()[:3] == [names[0], "PyTorch", "float32"]
    assert second.split()[:3] == [f"{names[1]}@bf16", "PyTorch", "bfloat16"]
    assert first.split()[-1] == "1.00"
