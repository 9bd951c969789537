"""Tiny checkpoints of `transformers` with random weights: right sums, no knowledge."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORDS = "a the of on in dog dogs two cats mat snow red page chart yes no".split()
QWEN_MARKS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


@contextmanager
def reproducible() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def spread(model):
    """Give weights that all matter: initial ones make scores alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def words_tokenizer(marks, **named):
    """A tokenizer of words, with one token for each byte of all others."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*marks, *alphabet, *WORDS, *(f"Ġ{word}" for word in WORDS)])
    vocabulary = {token: place for place, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token=marks[0], max_input_chars_per_word=1)
    )
    tokenizer.model = models.BPE(vocab=vocabulary, merges=[], ignore_merges=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\w+| ?[^\s\w]|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=list(marks), **named
    )
