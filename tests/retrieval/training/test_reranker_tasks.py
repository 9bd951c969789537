"""The objectives against their formulas, and what tasks share, on small batches of tokens."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from retrieval.errors import UsageError
from retrieval.rerankers.layers import JOINT_KINDS, CrossAttentionConfig, Kind
from retrieval.training.alignment import transport_distance
from retrieval.training.reranker_tasks import Batch, Objectives, RerankerTasks, alignment_loss

WORDS, CHANNELS = 6, 12
ALL = {"contrastive_weight": 0.5, "masked_word_weight": 1.0, "alignment_weight": 0.3}


def tasks(kind: Kind = "single-stream", **settings: object) -> RerankerTasks:
    shape = CrossAttentionConfig(
        CHANNELS, CHANNELS, 4, kind=kind, width=16, heads=2, depth=2, dropout=0.0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RerankerTasks(shape, Objectives(**settings), WORDS)  # type: ignore[arg-type]


def draw(count: int, seed: int, shared: float = 1.0) -> Batch:
    """Captions of three of six words each, and images that show these words among noise."""
    random = torch.Generator().manual_seed(seed)
    look = torch.randn(WORDS, CHANNELS, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(WORDS, (count, 3), generator=random)
    noise = torch.randn(count, 4, CHANNELS, generator=random)
    images = 0.3 * noise
    images[:, :3] += shared * look[ids]
    words = torch.ones(count, 3, dtype=torch.bool)
    return Batch(look[ids].flip(-1), words, images, ids)


@pytest.mark.parametrize("kind", JOINT_KINDS)
def test_every_objective_is_its_formula(kind: Kind) -> None:
    learned = tasks(kind, word_dropout=0.0, position_dropout=0.0, **ALL)
    batch = draw(5, seed=1)
    losses = learned.losses(batch)
    model = learned.model
    texts, images = model.embed_texts(batch.texts, batch.words), model.embed_images(batch.images)
    logits = model.match(texts, batch.words, images)
    listwise = -(logits.log_softmax(0).diagonal().mean() + logits.log_softmax(1).diagonal().mean())
    pairs = [
        -(F.logsigmoid(logit) * 5 / 3 if i == j else F.logsigmoid(-logit))
        for i, row in enumerate(logits)
        for j, logit in enumerate(row)
    ]
    cosines = F.normalize(images.mean(1), dim=1) @ F.normalize(texts.mean(1), dim=1).T
    both = (20 * cosines).log_softmax(0).diagonal(), (20 * cosines).log_softmax(1).diagonal()
    expected = {
        "listwise": listwise / 2,
        "matching": sum(pairs) / len(pairs),
        "contrastive": -(both[0].mean() + both[1].mean()) / 2,
        "alignment": alignment_loss(model, batch),
    }
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], torch.as_tensor(loss), rtol=1e-4, atol=1e-5)
    assert losses.keys() == {*expected, "masked_word"}
    weighted = losses["listwise"] + 0.2 * losses["matching"] + 0.5 * losses["contrastive"]
    weighted = weighted + losses["masked_word"] + 0.3 * losses["alignment"]
    torch.testing.assert_close(learned.total(losses), weighted)


@pytest.mark.parametrize("kind", JOINT_KINDS)
def test_the_alignment_is_that_of_right_pairs_less_that_of_the_next(kind: Kind) -> None:
    model, batch = tasks(kind, alignment_weight=1.0).model, draw(3, seed=2)
    texts, images = model.embed_texts(batch.texts, batch.words), model.embed_images(batch.images)
    ones = torch.ones(1, 4, dtype=torch.bool)
    total = 0.0
    for row in range(3):
        for image, sign in ((row, 1), ((row + 1) % 3, -1)):
            pair = texts[row : row + 1], batch.words[:1], images[image : image + 1]
            words, patches = model.fuse(*pair)
            total += sign * transport_distance(words, batch.words[:1], patches, ones).item() / 3
    assert alignment_loss(model, batch).item() == pytest.approx(total, abs=1e-5)


def test_hidden_words_are_not_seen() -> None:
    learned = tasks(masked_word_weight=1.0)
    head, batch = learned.masked_words, draw(4, seed=3)
    assert head is not None
    hidden = torch.zeros(4, 3, dtype=torch.bool)
    hidden[:, 1] = True
    loss = head(learned.model, batch, hidden)
    others = batch.texts.clone()
    others[:, 1] = 100.0
    torch.testing.assert_close(
        head(learned.model, dataclasses.replace(batch, texts=others), hidden), loss
    )
    others[:, 0] = 1.0
    assert head(learned.model, dataclasses.replace(batch, texts=others), hidden) != loss
    assert head(learned.model, batch, hidden & False) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", JOINT_KINDS)
def test_hidden_words_are_told_from_the_right_image(kind: Kind) -> None:
    learned = tasks(
        kind, masked_word_weight=1.0, masked_share=0.4, word_dropout=0.0, position_dropout=0.0
    )
    head = learned.masked_words
    assert head is not None
    optimizer = torch.optim.AdamW(learned.parameters(), lr=5e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(150):
            batch = draw(32, seed=100 + step)
            loss = head(learned.model, batch, torch.rand(32, 3) < 0.4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    learned.eval()
    unseen = draw(64, seed=7)
    wrong = dataclasses.replace(unseen, images=unseen.images.roll(1, 0))
    hidden = torch.zeros(64, 3, dtype=torch.bool)
    hidden[torch.arange(64), torch.arange(64) % 3] = True
    with torch.no_grad():
        losses = [float(head(learned.model, batch, hidden)) for batch in (unseen, wrong)]
    chance = float(torch.tensor(float(WORDS)).log())
    assert losses[0] < 0.7 * chance
    assert losses[0] < losses[1] - 0.5


def test_hard_sharing_has_one_trunk_that_every_task_trains() -> None:
    learned = tasks(**ALL)
    assert len(learned.trunks) == 0
    losses = learned.losses(draw(6, seed=4))
    assert "tie" not in losses
    weight = learned.model.scorer.layers[0].attention.query.weight
    for name in ("listwise", "masked_word", "alignment"):
        [gradient] = torch.autograd.grad(losses[name], [weight], retain_graph=True)
        assert gradient.abs().max() > 0, name


def test_soft_sharing_has_a_tied_trunk_for_each_further_task() -> None:
    learned = tasks(sharing="soft", tie_weight=0.5, **ALL)
    assert set(learned.trunks) == {"contrastive", "masked_word", "alignment"}
    losses = learned.losses(draw(6, seed=4))
    assert losses["tie"].item() == 0
    own = list(learned.model.parameters())
    for name in learned.trunks:
        trunk = list(learned.trunks[name].parameters())
        gradients = torch.autograd.grad(
            losses[name], [*own, *trunk], retain_graph=True, allow_unused=True
        )
        assert all(gradient is None for gradient in gradients[: len(own)])
        assert any(gradient is not None for gradient in gradients[len(own) :])
    with torch.no_grad():
        for trunk in learned.trunks.values():
            for parameter in trunk.parameters():
                parameter.add_(0.1)
    losses = learned.losses(draw(6, seed=4))
    count = 3 * sum(parameter.numel() for parameter in own)
    torch.testing.assert_close(losses["tie"], torch.tensor(0.01 * count), rtol=1e-3, atol=0)
    rest = {name: loss for name, loss in losses.items() if name != "tie"}
    torch.testing.assert_close(
        learned.total(losses), learned.total(rest) + 0.5 * losses["tie"], rtol=1e-5, atol=1e-4
    )
    learned.start_from(learned.model)
    assert learned.losses(draw(6, seed=4))["tie"].item() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"matching_weight": -0.1}, "matching_weight"),
        ({"alignment_weight": float("nan")}, "alignment_weight"),
        ({"tie_weight": float("inf")}, "tie_weight"),
        ({"masked_share": 1.0}, "masked_share"),
        ({"masked_word_weight": 1.0, "masked_share": 0.0}, "masked_share"),
        ({"listwise_weight": 0.0, "matching_weight": 0.0}, "must not both be 0"),
        ({"sharing": "firm"}, "hard or soft"),
        ({"sharing": "soft"}, "a task beside the match"),
    ],
)
def test_objectives_that_cannot_be_learned_are_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Objectives(**settings)  # type: ignore[arg-type]
