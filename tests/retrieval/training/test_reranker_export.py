"""Rerankers are exported with what there is to know of them, if their architecture can be."""

import json
from dataclasses import asdict, replace

import pytest

from retrieval.encoders.runtimes.network_folder import CARD_NAME
from retrieval.errors import UsageError
from retrieval.rerankers.cross_attention import CrossAttentionCard, load_model, save_model
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import KINDS, CrossAttentionConfig
from retrieval.training.reranker_export import export_reranker

CONFIG = CrossAttentionConfig(24, 12, image_positions=9, width=16, heads=2, feed_forward=0)
CARD = CrossAttentionCard("frob", "frob-1", 0.1, 7, short_text_tokens=4, short_text_weight=0.5)


def test_the_card_says_what_the_weight_file_says(tmp_path):
    save_model(tmp_path / "model", CrossAttentionModel(CONFIG), CARD)
    export_reranker(tmp_path / "model", tmp_path / "networks")
    card = json.loads((tmp_path / "networks" / CARD_NAME).read_text())["card"]
    assert card["card"] == asdict(CARD)
    assert card["config"] == asdict(CONFIG)
    assert card["sha256"] == load_model(tmp_path / "model")[2]


@pytest.mark.parametrize(
    "other",
    [{"depth": 2}, {"feed_forward": 2}, *({"kind": kind} for kind in KINDS if kind != "cross")],
)
def test_other_architectures_are_refused(other, tmp_path):
    file = tmp_path / "model.safetensors"
    save_model(file, CrossAttentionModel(replace(CONFIG, **other)), CARD)
    with pytest.raises(UsageError, match="cannot be exported: only models of kind `cross`"):
        export_reranker(file, tmp_path / "networks")
    assert not (tmp_path / "networks").exists()
