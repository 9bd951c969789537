"""The model against its formulas, written out pair by pair, without padding or batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.rerankers.cross_attention_model import CrossAttentionModel, Packed
from retrieval.rerankers.layers import (
    JOINT_KINDS,
    KINDS,
    Attention,
    CrossAttentionConfig,
    attention_weights,
)

IMAGE_WIDTH, TEXT_WIDTH, POSITIONS = 6, 5, 4
JOINT = ("cross", "single-stream")


def build(seed: int = 0, **settings: object) -> CrossAttentionModel:
    """A model in float64 none of whose weights is at an initial value that hides it."""
    config = CrossAttentionConfig(
        **{
            "image_width": IMAGE_WIDTH,
            "text_width": TEXT_WIDTH,
            "image_positions": POSITIONS,
            "width": 8,
            "heads": 2,
            **settings,
        }
    )
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CrossAttentionModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return model


def draw(texts: int, words: int, images: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Text tokens, their mask (any pattern, but no empty row), image tokens, their mask."""
    random = np.random.default_rng(seed)
    masks = []
    for rows, columns in ((texts, words), (images, POSITIONS)):
        mask = random.random((rows, columns)) < 0.6
        mask[np.arange(rows), random.integers(0, columns, rows)] = True
        masks.append(torch.from_numpy(mask))
    return (
        torch.from_numpy(random.normal(size=(texts, words, TEXT_WIDTH))),
        masks[0],
        torch.from_numpy(random.normal(size=(images, POSITIONS, IMAGE_WIDTH))),
        masks[1],
    )


class Reference:
    """The model's formulas for one text and one image in plain NumPy."""

    def __init__(self, model: CrossAttentionModel) -> None:
        self.config = model.config
        self.weights = {name: value.numpy() for name, value in model.state_dict().items()}

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, name, x, seen):
        query = self.linear(f"{name}.query", x)
        key, value = np.split(self.linear(f"{name}.key_value", seen), 2, axis=1)
        size = self.config.width // self.config.heads
        mixed = np.zeros_like(query)
        for head in range(self.config.heads):
            part = slice(head * size, (head + 1) * size)
            for i, q in enumerate(query[:, part]):
                weights = softmax(np.array([q @ k / math.sqrt(size) for k in key[:, part]]))
                mixed[i, part] = sum(w * v for w, v in zip(weights, value[:, part], strict=True))
        return self.linear(f"{name}.out", mixed)

    def feed_forward(self, name, x):
        if not self.config.feed_forward:
            return x
        hidden = gelu(self.linear(f"{name}.up", self.norm(f"{name}.norm", x)))
        return x + self.linear(f"{name}.down", hidden)

    def self_attention(self, name, x):
        normed = self.norm(f"{name}.norm", x)
        return self.feed_forward(
            f"{name}.feed_forward", x + self.attention(f"{name}.attention", normed, normed)
        )

    def stem(self, name, tokens, layers, positions=None):
        x = self.linear(f"{name}.project", self.norm(f"{name}.norm", tokens))
        if positions is not None:
            x = x + positions
        for layer in range(layers):
            x = self.self_attention(f"{name}.layers.{layer}", x)
        return x

    def summary(self, name, x):
        x = self.norm(f"{name}.norm", x)
        scores = self.linear(f"{name}.score", x)
        pooled = np.concatenate([softmax(column) @ x for column in scores.T])
        return unit(self.linear(f"{name}.out", pooled))

    def readout(self, name, x):
        hidden = gelu(self.linear(f"{name}.hidden", self.norm(f"{name}.norm", x)))
        return self.linear(f"{name}.out", hidden)[0]

    def cross(self, text, image):
        importance = self.linear("fusion.importance", self.norm("fusion.importance_norm", text))
        weights = softmax(importance[:, 0])
        summaries = self.summary("fusion.text_summary", text) @ self.summary(
            "fusion.image_summary", image
        )
        for block in range(self.config.depth):
            name = f"fusion.blocks.{block}"
            before = text
            x = text if block == 0 else self.self_attention(f"{name}.text_self", text)
            saw = self.attention(
                f"{name}.to_image",
                self.norm(f"{name}.text_norm", x),
                self.norm(f"{name}.image_norm", image),
            )
            text = self.feed_forward(f"{name}.feed_forward", x + saw)
            if self.config.co_attention and block < self.config.depth - 1:
                looked = self.attention(
                    f"{name}.to_text",
                    self.norm(f"{name}.own_norm", image),
                    self.norm(f"{name}.seen_norm", text),
                )
                image = self.feed_forward(f"{name}.image_feed_forward", image + looked)
        words = self.linear("fusion.word", before)
        logit = math.exp(self.weights["fusion.log_scale"]) * sum(
            weight * (unit(word) @ unit(sight))
            for weight, word, sight in zip(weights, words, saw, strict=True)
        )
        logit += self.weights["fusion.bias"]
        logit += math.exp(self.weights["fusion.log_summary_scale"]) * summaries
        if self.config.feed_forward:
            logit += self.readout("fusion.pooled", weights @ text)
        return logit

    def pooled(self, text, image):
        t = softmax(self.linear("fusion.text_score", text)[:, 0]) @ text
        v = softmax(self.linear("fusion.image_score", image)[:, 0]) @ image
        left, right = self.linear("fusion.text", t), self.linear("fusion.image", v)
        if self.config.kind == "bilinear":
            fused = left * right
        elif self.config.kind == "gated":
            share = 1 / (1 + np.exp(-self.linear("fusion.gate", np.concatenate([t, v]))))
            fused = share * np.tanh(left) + (1 - share) * np.tanh(right)
        elif self.config.kind == "cosine":
            scale = math.exp(self.weights["fusion.log_scale"])
            return scale * unit(left) @ unit(right) + self.weights["fusion.bias"]
        else:
            fused = np.concatenate([left, right])
        return self.readout("fusion.readout", fused)

    def single_stream(self, text, image, places):
        h = self.joined(text, image, places)[: len(text)]
        weights = softmax(self.linear("fusion.word_score", h)[:, 0])
        return self.readout("fusion.readout", weights @ h)

    def joined(self, text, image, places):
        """The last states of the words, then of the patches, one layer after the other."""
        width = self.config.width
        waves = np.empty((len(text), width))
        for row, place in enumerate(places):
            for k in range(0, width, 2):
                angle = place / 10_000 ** (k / width)
                waves[row, k : k + 2] = math.sin(angle), math.cos(angle)
        words, patches = self.weights["fusion.modalities"]
        x = np.concatenate(
            [text + self.weights["fusion.position_scale"] * waves + words, image + patches]
        )
        for layer in range(self.config.depth):
            x = self.self_attention(f"fusion.layers.{layer}", x)
        return x

    def __call__(self, text_tokens, text_mask, image_tokens, image_mask):
        logits = np.empty((len(image_tokens), len(text_tokens)))
        for row, column in np.ndindex(logits.shape):
            seen = image_mask[row].numpy()
            text = self.stem(
                "text_stem",
                text_tokens[column].numpy()[text_mask[column].numpy()],
                self.config.text_layers,
            )
            image = self.stem(
                "image_stem",
                image_tokens[row].numpy()[seen],
                self.config.image_layers,
                self.weights["image_stem.positions"][seen],
            )
            if self.config.kind == "single-stream":
                [places] = np.nonzero(text_mask[column].numpy())
                logits[row, column] = self.single_stream(text, image, places)
            else:
                match = self.cross if self.config.kind == "cross" else self.pooled
                logits[row, column] = match(text, image)
        return logits


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def unit(x):
    return x / np.linalg.norm(x)


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def scores(model, *batch):
    with torch.inference_mode():
        return model(*batch).numpy()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("co_attention", [True, False])
@pytest.mark.parametrize("feed_forward", [0, 2])
@pytest.mark.parametrize("heads", [1, 2])
def test_cross_fusion_is_its_formula(depth, co_attention, feed_forward, heads):
    model = build(depth=depth, co_attention=co_attention, feed_forward=feed_forward, heads=heads)
    batch = draw(texts=3, words=5, images=2)
    expected = Reference(model)(*batch)
    assert expected.std() > 0.1
    np.testing.assert_allclose(scores(model, *batch), expected, rtol=1e-9, atol=1e-9)
    single = [part.float() if part.is_floating_point() else part for part in batch]
    np.testing.assert_allclose(scores(model.float(), *single), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("feed_forward", [0, 2])
def test_the_single_stream_is_its_formula(depth, feed_forward):
    model = build(kind="single-stream", depth=depth, feed_forward=feed_forward)
    batch = draw(texts=3, words=5, images=2)
    expected = Reference(model)(*batch)
    assert expected.std() > 0.05
    np.testing.assert_allclose(scores(model, *batch), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layers", [(0, 0), (2, 0), (0, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_its_formula(kind, layers):
    model = build(kind=kind, text_layers=layers[0], image_layers=layers[1])
    batch = draw(texts=3, words=4, images=3, seed=1)
    np.testing.assert_allclose(scores(model, *batch), Reference(model)(*batch), atol=1e-9)


def test_packed_texts_are_unpacked_where_they_were():
    mask = torch.tensor([[True, False, True], [False, True, False]])
    values = torch.arange(6.0).view(1, 3, 2)
    packed = Packed(values, mask)
    padded = packed.unpack(values)
    assert padded.tolist() == [[[[0, 1], [0, 0], [2, 3]], [[0, 0], [4, 5], [0, 0]]]]
    assert packed.sums.tolist() == [[1, 0], [1, 0], [0, 1]]


MODELS = {
    (kind, depth): build(kind=kind, depth=depth)
    for kind in KINDS
    for depth in ((1, 2) if kind in JOINT else (1,))
}
models = pytest.mark.parametrize(
    "model", MODELS.values(), ids=["-".join(map(str, k)) for k in MODELS]
)
batches = st.builds(
    draw, st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32)
)


@models
@settings(max_examples=12)
@given(batch=batches, more=st.integers(1, 3), filler=st.sampled_from([0.0, 3.0, 1e6]))
def test_padding_of_texts_changes_no_score(model, batch, more, filler):
    texts, mask, images, image_mask = batch
    shape = (len(texts), more)
    padded = torch.cat([texts, torch.full((*shape, TEXT_WIDTH), filler).double()], 1)
    longer = torch.cat([mask, torch.zeros(shape, dtype=torch.bool)], 1)
    np.testing.assert_allclose(
        scores(model, padded, longer, images, image_mask), scores(model, *batch), atol=1e-9
    )


@models
@settings(max_examples=12)
@given(batch=batches, filler=st.sampled_from([0.0, 3.0, 1e6]))
def test_what_is_masked_changes_no_score(model, batch, filler):
    texts, mask, images, image_mask = batch
    other_texts, other_images = texts.clone(), images.clone()
    other_texts[~mask] = filler
    other_images[~image_mask] = filler
    np.testing.assert_allclose(
        scores(model, other_texts, mask, other_images, image_mask),
        scores(model, *batch),
        atol=1e-9,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_images_changes_no_score(kind):
    model = build(kind=kind, depth=2, image_positions=0)
    texts, mask, images, _ = draw(3, 4, 3)
    padded = torch.cat([images, torch.ones(3, 2, IMAGE_WIDTH)], 1)
    present = torch.ones(3, POSITIONS + 2, dtype=torch.bool)
    present[:, POSITIONS:] = False
    plain = scores(model, texts, mask, images)
    np.testing.assert_allclose(scores(model, texts, mask, padded, present), plain, atol=1e-9)


@models
@settings(max_examples=12)
@given(batch=batches, seed=st.integers(0, 2**32))
def test_permuting_permutes_the_scores(model, batch, seed):
    texts, mask, images, image_mask = batch
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(len(images)), random.permutation(len(texts))
    permuted = scores(model, texts[columns], mask[columns], images[rows], image_mask[rows])
    expected = scores(model, *batch)[np.ix_(rows, columns)]
    np.testing.assert_allclose(permuted, expected, atol=1e-9)


@models
@settings(max_examples=8)
@given(batch=batches)
def test_a_score_depends_on_its_own_pair_alone(model, batch):
    texts, mask, images, image_mask = batch
    together = scores(model, *batch)
    for row, column in np.ndindex(together.shape):
        i, j = slice(row, row + 1), slice(column, column + 1)
        alone = scores(model, texts[j], mask[j], images[i], image_mask[i])
        np.testing.assert_allclose(alone[0, 0], together[row, column], atol=1e-9)


@models
def test_each_side_may_be_embedded_apart(model):
    texts, mask, images, image_mask = draw(3, 4, 2)
    with torch.inference_mode():
        apart = model.match(
            model.embed_texts(texts, mask),
            mask,
            torch.cat(
                [model.embed_images(images[i : i + 1], image_mask[i : i + 1]) for i in (0, 1)]
            ),
            image_mask,
        )
    np.testing.assert_allclose(apart, scores(model, texts, mask, images, image_mask), atol=1e-9)


@models
def test_no_candidates_no_scores(model):
    texts, mask, images, image_mask = draw(3, 4, 2)
    assert scores(model, texts, mask, images[:0], image_mask[:0]).shape == (0, 3)


@models
def test_every_weight_is_learned(model):
    texts, mask, images, image_mask = draw(4, 5, 3)
    logits = model.train()(texts, mask, images, image_mask)
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
    model.eval()
    assert not [n for n, g in zip(names, gradients, strict=True) if not g.isfinite().all()]
    unused = [n for n, g in zip(names, gradients, strict=True) if not g.abs().max() > 1e-12]
    # What shifts all scores under a softmax alike changes nothing.
    shifts = ("score.bias", "importance.bias", "importance_norm.bias")
    assert not [name for name in unused if not name.endswith(shifts)]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("co_attention", [True, False])
def test_attribution_is_attention_times_gradient(depth, co_attention):
    model = build(depth=depth, co_attention=co_attention).requires_grad_(False)
    texts, _, images, _ = draw(1, 5, 1)
    everything = torch.ones(1, 5, dtype=torch.bool)
    text, image = model.embed_texts(texts, everything)[0], model.embed_images(images)[0]
    raised = model.attribution(text, image)
    assert raised.shape == (5, POSITIONS)
    assert raised.isfinite().all()
    assert (raised >= 0).all()
    assert raised.sum() > 0
    if depth == 1:
        np.testing.assert_allclose(raised, difference_quotients(model, text, image), atol=1e-5)


def difference_quotients(model, text, image):
    """Attention times the slope of the logit along it, measured by moving each weight a little."""
    block = model.scorer.blocks[0]
    attention: Attention = block.to_image
    seen = block.image_norm(image)
    key, value = (attention._split(part) for part in attention.key_value(seen).chunk(2, -1))
    weights = attention_weights(attention._split(attention.query(block.text_norm(text))), key)
    mask = torch.ones(1, len(text), dtype=torch.bool)

    def logit(changed):
        attention.forward = lambda *_: attention.out((changed @ value).transpose(0, 1).flatten(1))[
            None
        ]
        try:
            return float(model.match(text[None], mask, image[None]))
        finally:
            del attention.forward

    assert logit(weights) == pytest.approx(float(model.match(text[None], mask, image[None])))
    raised = np.zeros(weights.shape)
    for place in np.ndindex(*weights.shape):
        step = torch.zeros_like(weights)
        step[place] = 1e-5
        slope = (logit(weights + step) - logit(weights - step)) / 2e-5
        raised[place] = max(0.0, float(weights[place]) * slope)
    return raised.mean(0)


@pytest.mark.parametrize("kind", JOINT)
@pytest.mark.parametrize("co_attention", [True, False])
def test_recording_changes_no_score(kind, co_attention):
    model = build(kind=kind, depth=3, co_attention=co_attention)
    batch = draw(3, 4, 2)
    plain = scores(model, *batch)
    recorded = []
    for look in model.scorer.attentions:
        look.recorded = recorded
    with torch.no_grad():
        np.testing.assert_allclose(model(*batch), plain, atol=1e-9)
    assert len(recorded) == 3
    for weights in recorded:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]).double())
        assert (weights >= 0).all()


@pytest.mark.parametrize("fails", [False, True])
def test_attribution_leaves_nothing_behind(fails):
    model = build(depth=2)
    texts, _, images, _ = draw(1, 3, 1)
    everything = torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        text, image = model.embed_texts(texts, everything)[0], model.embed_images(images)[0]
    if fails:
        with pytest.raises(RuntimeError):
            model.attribution(text, image[:, :-1])
    else:
        model.attribution(text, image)
    assert [look.recorded for look in model.scorer.attentions] == [None, None]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("depth", [1, 2])
def test_attribution_of_a_single_stream_is_that_of_its_words_over_the_patches(depth):
    model = build(kind="single-stream", depth=depth).requires_grad_(False)
    text, image = torch.randn(3, 8).double(), torch.randn(4, 8).double()
    raised = model.attribution(text, image)
    assert raised.shape == (3, 4)
    assert (raised >= 0).all()
    assert (raised.sum(1) > 0).any()
    if depth == 1:
        np.testing.assert_allclose(raised, slopes_of_single_stream(model, text, image), atol=1e-5)


def slopes_of_single_stream(model, text, image):
    """Attention times the slope of the logit along it, by moving each weight a little."""
    layer = model.scorer.layers[0]
    attention: Attention = layer.attention
    everything = torch.ones(1, len(text), dtype=torch.bool)
    x, _ = model.scorer._join(text[None], everything, image[None], None)
    seen = layer.norm(x)[0]
    key, value = (attention._split(part) for part in attention.key_value(seen).chunk(2, -1))
    weights = attention_weights(attention._split(attention.query(seen[: len(text)])), key)

    def logit(changed):
        attention.forward = lambda *_: attention.out((changed @ value).transpose(0, 1).flatten(1))[
            None
        ]
        try:
            return float(model.match(text[None], everything, image[None]))
        finally:
            del attention.forward

    raised = np.zeros((len(weights), len(text), len(image)))
    for place in np.ndindex(*raised.shape):
        step = torch.zeros_like(weights)
        at = (*place[:2], len(text) + place[2])
        step[at] = 1e-5
        slope = (logit(weights + step) - logit(weights - step)) / 2e-5
        raised[place] = max(0.0, float(weights[at]) * slope)
    return raised.mean(0)


POOLED = [kind for kind in KINDS if kind not in JOINT_KINDS]


@pytest.mark.parametrize("kind", POOLED)
def test_pooled_models_cannot_say_where_they_looked(kind):
    text, image = torch.zeros(2, 8).double(), torch.zeros(4, 8).double()
    with pytest.raises(UsageError, match="`cross` or `single-stream`"):
        build(kind=kind).attribution(text, image)
    with pytest.raises(UsageError, match="`cross` or `single-stream`"):
        build(kind=kind).fuse(text[None], torch.ones(1, 2, dtype=torch.bool), image[None])


def test_fused_tokens_are_those_that_are_read_out():
    for depth in (1, 2, 3):
        model = build(depth=depth, feed_forward=depth - 1)
        texts, mask, images, image_mask = draw(2, 4, 2)
        with torch.no_grad():
            text, image = model.embed_texts(texts, mask), model.embed_images(images, image_mask)
            words, patches = model.fuse(text, mask, image, image_mask)
            for pair in range(2):
                packed = Packed(text[pair : pair + 1][mask[pair : pair + 1]][None], mask[[pair]])
                seen = image[[pair]]
                for block in model.scorer.blocks:
                    before = packed
                    packed, seen, context = block(packed, seen, image_mask[[pair]])
                own = before.values + context if depth == 1 else packed.values
                np.testing.assert_allclose(words[pair][mask[pair]], own[0], atol=1e-9)
                np.testing.assert_allclose(patches[pair], seen.reshape(POSITIONS, -1), atol=1e-9)


def test_fused_tokens_of_a_single_stream_are_its_last_states():
    model = build(kind="single-stream", depth=2)
    text, image = torch.randn(1, 3, 8).double(), torch.randn(1, 4, 8).double()
    with torch.no_grad():
        words, patches = model.fuse(text, torch.ones(1, 3, dtype=torch.bool), image)
    expected = Reference(model).joined(text[0].numpy(), image[0].numpy(), range(3))
    np.testing.assert_allclose(torch.cat([words, patches], 1)[0], expected, atol=1e-9)
