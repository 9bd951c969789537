"""The objectives of a reranker, and what they share: one trunk with several heads, or tied trunks.

Only the model itself is kept in the end; heads and further trunks are for training.
"""

import copy
import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.errors import UsageError, require_share
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.rerankers.ood import mean_state
from retrieval.training.alignment import transport_distance
from retrieval.training.losses import contrastive_loss, matching_loss

Sharing = Literal["hard", "soft"]

_CONTRASTIVE_SCALE = 20.0
_NOT_NEGATIVE = (
    "listwise_weight",
    "matching_weight",
    "contrastive_weight",
    "masked_word_weight",
    "alignment_weight",
    "tie_weight",
)


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """Weights of the losses, and how the tasks share parameters.

    listwise_weight: cross-entropy of the right image among those of the batch, and of the right
    caption, over the match logits.
    matching_weight: binary cross-entropy of single pairs (image-text matching), over the same.
    contrastive_weight: InfoNCE of the mean tokens of both sides, embedded apart.
    masked_word_weight: cross-entropy of hidden words, given the others and the image.
    alignment_weight: word-region alignment, the transport distance of words and patches of right
    pairs minus that of wrong ones.
    masked_share: share of the words that are hidden.
    word_dropout, position_dropout: share of text and image tokens masked while training.
    sharing: `hard` (one trunk, a head for each task) or `soft` (a trunk for each of the tasks
    beside the match, tied to that of the match).
    tie_weight: weight of the squared distance of tied parameters.
    """

    listwise_weight: float = 1.0
    matching_weight: float = 0.2
    contrastive_weight: float = 0.0
    masked_word_weight: float = 0.0
    alignment_weight: float = 0.0
    masked_share: float = 0.15
    word_dropout: float = 0.1
    position_dropout: float = 0.2
    sharing: Sharing = "hard"
    tie_weight: float = 1e-3

    def __post_init__(self) -> None:
        require_share(self, "word_dropout", "position_dropout", "masked_share")
        for name in _NOT_NEGATIVE:
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise UsageError(f"{name} must be at least 0, not {value}.")
        if not self.listwise_weight and not self.matching_weight:
            raise UsageError(
                "listwise_weight and matching_weight must not both be 0: no other loss trains "
                "the match."
            )
        if self.sharing not in get_args(Sharing):
            raise UsageError(f"sharing must be hard or soft, not {self.sharing!r}.")
        if self.sharing == "soft" and not self.further_tasks:
            raise UsageError(
                "sharing soft needs a task beside the match: give contrastive_weight, "
                "masked_word_weight or alignment_weight."
            )
        if self.masked_word_weight and not self.masked_share:
            raise UsageError("masked_share must be greater than 0 to learn hidden words.")

    @property
    def further_tasks(self) -> tuple[str, ...]:
        """Name the tasks beside the match that have a weight."""
        tasks = ("contrastive", "masked_word", "alignment")
        return tuple(task for task in tasks if getattr(self, f"{task}_weight"))


@dataclass(frozen=True)
class Batch:
    """n captions with their photos, as tokens of the encoder; caption i belongs to photo i.

    texts: (n, t, c) float32. words: (n, t) bool, present tokens. images: (n, u, d) float32, all
    present. word_ids: (n, t) int64, the word of each token, -1 for none; None without the task.
    """

    texts: Tensor
    words: Tensor
    images: Tensor
    word_ids: Tensor | None = None


class MaskedWords(nn.Module):
    """Head of masked language modelling with image context (Chen et al. 2020, UNITER).

    The token of a hidden word is replaced by a learned vector before the trunk, and the word is
    told from its fused state by a linear layer over the vocabulary of the captions.

    The encoder is frozen and had read the whole caption: the tokens that remain know something of
    the hidden word. The loss is therefore lower than of a model that reads words alone; what the
    image adds shows in the difference between right and wrong images.
    """

    def __init__(self, shape: CrossAttentionConfig, vocabulary: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(0.02 * torch.randn(shape.text_width))
        self.norm = nn.LayerNorm(shape.width)
        self.words = nn.Linear(shape.width, vocabulary)

    def forward(self, trunk: CrossAttentionModel, batch: Batch, hidden: Tensor) -> Tensor:
        """Compute the mean cross-entropy of hidden words; 0 where none is hidden.

        hidden: (n, t) bool, True only where `batch.word_ids` has a word.
        """
        assert batch.word_ids is not None
        tokens = torch.where(hidden[..., None], self.hidden, batch.texts)
        fused, _ = trunk.fuse(
            trunk.embed_texts(tokens, batch.words), batch.words, trunk.embed_images(batch.images)
        )
        logits = self.words(self.norm(fused[hidden]))
        count = max(1, len(logits))
        return F.cross_entropy(logits, batch.word_ids[hidden], reduction="sum") / count


class RerankerTasks(nn.Module):
    """A reranker with the heads and trunks of its further tasks.

    With soft sharing (Duong et al. 2015) a task t beside the match has a copy of the model of its
    own, and lambda sum_t |theta_t - theta|^2 ties the copies to the model (`tie`).

    Args:
        shape: of the model.
        objectives: what is learned.
        vocabulary: number of words that can be hidden; unused without that task.
    """

    def __init__(
        self, shape: CrossAttentionConfig, objectives: Objectives, vocabulary: int = 0
    ) -> None:
        super().__init__()
        self.objectives = objectives
        self.model = CrossAttentionModel(shape)
        soft = objectives.further_tasks if objectives.sharing == "soft" else ()
        self.trunks = nn.ModuleDict({task: copy.deepcopy(self.model) for task in soft})
        self.masked_words = (
            MaskedWords(shape, vocabulary) if objectives.masked_word_weight else None
        )

    def start_from(self, trained: CrossAttentionModel) -> None:
        """Give the model, and all trunks, the weights of a trained one, not its trust."""
        for trunk in (self.model, *self.trunks.values()):
            trunk.load_state_dict(dict(trained.named_parameters()), strict=False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of each objective that has a weight, before it is weighted."""
        weights, model = self.objectives, self.model
        kept = batch.words & self._drawn(batch.words.shape, weights.word_dropout)
        kept[:, 0] = True
        seen = self._drawn(batch.images.shape[:2], weights.position_dropout)
        seen[:, 0] = True
        images = model.embed_images(batch.images)
        texts = model.embed_texts(batch.texts, kept)
        logits = model.match(texts, kept, images, seen)
        found: dict[str, Tensor] = {}
        if weights.listwise_weight:
            found["listwise"] = matching_loss(logits)
        if weights.matching_weight:
            found["matching"] = _pairwise_loss(logits)
        if weights.contrastive_weight:
            trunk = self._trunk("contrastive")
            if trunk is not model:
                images = trunk.embed_images(batch.images)
                texts = trunk.embed_texts(batch.texts, kept)
            found["contrastive"] = contrastive_loss(
                F.normalize(images.mean(1), dim=1),
                F.normalize(mean_state(texts, kept), dim=1),
                _CONTRASTIVE_SCALE,
            )
        if self.masked_words is not None and batch.word_ids is not None:
            hidden = ~self._drawn(batch.words.shape, weights.masked_share) & (batch.word_ids >= 0)
            found["masked_word"] = self.masked_words(self._trunk("masked_word"), batch, hidden)
        if weights.alignment_weight:
            found["alignment"] = alignment_loss(self._trunk("alignment"), batch)
        if self.trunks:
            found["tie"] = self._distance()
        return found

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Add up weighted losses."""
        weighted = [getattr(self.objectives, f"{name}_weight") * losses[name] for name in losses]
        return cast("Tensor", sum(weighted))

    def _trunk(self, task: str) -> CrossAttentionModel:
        own = self.trunks[task] if self.trunks else self.model
        return cast("CrossAttentionModel", own)

    def _distance(self) -> Tensor:
        """Compute the squared distance of the parameters of all trunks from those of the model."""
        return cast(
            "Tensor",
            sum(
                (own - tied).square().sum()
                for trunk in self.trunks.values()
                for own, tied in zip(trunk.parameters(), self.model.parameters(), strict=True)
            ),
        )

    def _drawn(self, shape: torch.Size, share: float) -> Tensor:
        """Draw a bool tensor that is False in about a share of its places."""
        device = self.model.text_trust.mean.device
        return torch.rand(shape, device=device) >= share


def alignment_loss(trunk: CrossAttentionModel, batch: Batch) -> Tensor:
    """Compute the mean transport distance of right pairs minus that of wrong ones, -2 to 2.

    The wrong image of a caption is that of the next one of the batch, mostly a hard negative.
    """
    texts = trunk.embed_texts(batch.texts, batch.words)
    images = trunk.embed_images(batch.images)
    present = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
    distances = []
    for each in (images, images.roll(-1, 0)):
        words, patches = trunk.fuse(texts, batch.words, each)
        distances.append(transport_distance(words, batch.words, patches, present))
    right, wrong = distances
    return (right - wrong).mean()


def _pairwise_loss(logits: Tensor) -> Tensor:
    """Compute the binary cross-entropy of (n, n) logits, of which the diagonal belongs together."""
    # One positive weighs as much as three negatives: with more, "no" is nearly always right.
    return F.binary_cross_entropy_with_logits(
        logits,
        torch.eye(len(logits), device=logits.device),
        pos_weight=torch.tensor(len(logits) / 3, device=logits.device),
    )
