"""The card of a trained encoder says where it is from and how good it is."""

from dataclasses import replace

from retrieval.training.encoders.model_card import Comparison, DataCard, Measured, ModelCard

CARD = ModelCard(
    encoder="local-dir:run/encoder",
    base="open_clip:ViT-B-32/openai",
    base_weights="xxh3-128:00",
    command="mmsearch train encoder --dataset csv:a.csv",
    data=[DataCard("a", "csv:a.csv", "0123456789abcdef0", 1000, 5000, 100, ("en", "zh"))],
    settings={"epochs": 3, "loss": "contrastive"},
    figures=[
        Comparison("a", "text to image R@1", Measured(0.1, 0.05, 0.15), Measured(0.2, 0.15, 0.25))
    ],
    shares={0.0: 0.1, 0.5: 0.3, 1.0: 0.2},
    share=0.5,
    epochs=3,
    steps=120,
    trained=5,
    parameters=10,
    seconds=61.0,
    memory_bytes=2_000_000_000,
    device="cpu",
    software={"torch": "2.0"},
    notes=["2 images cannot be read"],
)


def test_a_card_tells_data_recipe_quality_and_limits(tmp_path):
    text = CARD.write(tmp_path).read_text()
    for told in (
        "| a (`csv:a.csv`) | 1,000 | 5,000 | 100 | en, zh | 0123456789abcdef |",
        "    mmsearch train encoder --dataset csv:a.csv",
        "| epochs | 3 |",
        "120 steps in 3 epochs, 5 of 10 parameters trained, 61 s on cpu, peak memory 2.0 GB",
        "| a | text to image R@1 | 10.0 (5.0 to 15.0) | 20.0 (15.0 to 25.0) |",
        "| mean recall | 10.0 | 30.0 | 20.0 |",
        "- 2 images cannot be read",
        "licence of this model is yours to state",
    ):
        assert told in text


def test_a_given_share_has_no_table():
    text = replace(CARD, shares={0.5: 0.3}).markdown()
    assert "best share" not in text
    assert "| share |" not in text
