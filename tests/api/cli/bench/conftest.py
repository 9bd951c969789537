"""The benchmarks as users call them, and what several of them measure."""

import json

import pytest
from typer.testing import CliRunner

from api.cli.bench.options import load_chosen_reranker
from api.cli.bench.program import bench


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    load_chosen_reranker.cache_clear()  # what it tells is told once a process

    def run(*arguments: object):
        return CliRunner().invoke(bench, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def captioned(picture_folder):
    """The six pictures as a dataset, two captions each."""
    lines = []
    for number, file in enumerate(sorted(picture_folder.rglob("*.png"))):
        file.rename(picture_folder / file.name)
        captions = [f"{way} {number}" for way in ("noise of kind", "a carpet, number")]
        lines.append(json.dumps({"image": file.name, "split": "val", "en": captions}))
    (picture_folder / "images").symlink_to(picture_folder)
    (picture_folder / "captions.jsonl").write_text("\n".join(lines))
    return f"jsonl:{picture_folder}"


@pytest.fixture(scope="session")
def random_fusion(tmp_path_factory):
    """The name of a small, untrained cross-attention model for `starter`."""
    import torch

    from retrieval.encoders.registry import load_encoder
    from retrieval.rerankers.cross_attention import CrossAttentionCard, save_model
    from retrieval.rerankers.cross_attention_model import CrossAttentionModel
    from retrieval.rerankers.layers import CrossAttentionConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CrossAttentionModel(
            CrossAttentionConfig(image_width=734, text_width=384, width=16, heads=2)
        )
    file = tmp_path_factory.mktemp("fusion") / "random.safetensors"
    save_model(
        file,
        model,
        CrossAttentionCard(
            "starter", load_encoder("starter", "cpu").space.id, match_weight=1.0, depth=3
        ),
    )
    return f"fusion:{file}"
