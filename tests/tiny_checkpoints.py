"""Tiny checkpoints of `transformers` with random weights: right sums, no knowledge."""

from pathlib import Path

import torch

WORDS = ["a", "the", "of", "on", "two", "cats", "dog", "snow", "red", "page", "yes", "no"]
QWEN_MARKS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VISION = {"depth": 3, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}


def make_colpali(folder: Path) -> None:
    """ColPali: 4 x 4 patches of an image of 32 pixels."""
    import transformers

    tokenizer = _tokenizer(
        ["<pad>", "<bos>", "<eos>", "<image>"],
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
    )
    tokenizer.image_token = "<image>"
    tokenizer.image_token_id = 3
    images = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = transformers.ColPaliProcessor(images, tokenizer)
    pali = transformers.PaliGemmaConfig(
        text_config={
            **_TEXT,
            "model_type": "gemma",
            "vocab_size": len(tokenizer) + 8,
            "head_dim": 8,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 32,
            "vision_use_head": False,
        },
        image_token_index=3,
        projection_dim=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = transformers.ColPaliConfig(vlm_config=pali, embedding_dim=8)
    _save(folder, lambda: transformers.ColPaliForRetrieval(config), processor)


def make_colqwen(folder: Path) -> None:
    """ColQwen2: at most 64 patches of 8 pixels, by the size of the image."""
    import transformers

    processor = transformers.ColQwen2Processor(_qwen_images(), _qwen_tokenizer())
    config = transformers.ColQwen2Config(vlm_config=_qwen2(), embedding_dim=8)
    _save(folder, lambda: transformers.ColQwen2ForRetrieval(config), processor)


def make_jina(folder: Path) -> None:
    """As jina-reranker-m0: Qwen2-VL, and a score head that its class does not know."""
    import transformers
    from safetensors.torch import load_file, save_file

    config = _qwen2()
    _save(
        folder,
        lambda: transformers.Qwen2VLForConditionalGeneration(config),
        _qwen_images(),
        _qwen_tokenizer(),
    )
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight", None)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    weights |= {f"score.{key}": value for key, value in head.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_qwen3(folder: Path) -> None:
    """As Qwen3-VL-Reranker, with two layers of DeepStack."""
    import transformers

    tokenizer = _qwen_tokenizer()
    rope = {**_ROPE, "mrope_interleaved": True}
    config = transformers.Qwen3VLConfig(
        text_config={
            **_TEXT,
            "vocab_size": len(tokenizer) + 8,
            "head_dim": 8,
            "rope_parameters": rope,
        },
        vision_config={
            **_VISION,
            "hidden_size": 16,
            "intermediate_size": 24,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
        **_qwen_marks(),
    )
    _save(
        folder,
        lambda: transformers.Qwen3VLForConditionalGeneration(config),
        _qwen_images(),
        tokenizer,
    )


def make_blip2(folder: Path) -> None:
    """BLIP-2 for image-text retrieval: 16 patches and 4 queries."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    config = transformers.Blip2Config(
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 32,
            "patch_size": 8,
        },
        qformer_config={
            "vocab_size": 32,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 24,
            "encoder_hidden_size": 24,
            "use_qformer_text_input": True,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": 32,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "ffn_dim": 32,
            "num_attention_heads": 2,
            "word_embed_proj_dim": 32,
        },
        num_query_tokens=4,
        image_text_hidden_size=16,
    )
    _save(
        folder,
        lambda: transformers.Blip2ForImageTextRetrieval(config),
        transformers.BlipImageProcessor(size={"height": 32, "width": 32}),
        transformers.BertTokenizerFast(str(vocabulary)),
    )


def make_bert(folder: Path, model: str = "Bert") -> None:
    """A text tower of a family, with BERT's tokenizer of known words."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(transformers, f"{model}Config")(
        **sizes,
        intermediate_size=48,
        vocab_size=32,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    make = getattr(transformers, f"{model}Model")
    _save(folder, lambda: make(config), transformers.BertTokenizerFast(str(vocabulary)))


def make_timm(folder: Path, architecture: str = "test_efficientnet") -> None:
    """An image tower of timm for pictures of 160 pixels, as timm saves it."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(architecture, pretrained=False)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)


def _save(folder, make, *parts):
    """Save a model whose weights all matter: initial ones make scores alike."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    for part in (model, *parts):
        part.save_pretrained(folder)


def _qwen2():
    import transformers

    vocabulary = len(_qwen_tokenizer()) + 8
    return transformers.Qwen2VLConfig(
        text_config={**_TEXT, "vocab_size": vocabulary, "rope_parameters": _ROPE},
        vision_config={**_VISION, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2},
        **_qwen_marks(),
    )


def _qwen_marks():
    places = {mark.strip("<|>"): place for place, mark in enumerate(QWEN_MARKS)}
    return {
        "image_token_id": places["image_pad"],
        "video_token_id": places["video_pad"],
        "vision_start_token_id": places["vision_start"],
        "vision_end_token_id": places["vision_end"],
    }


def _qwen_images():
    import transformers

    return transformers.Qwen2VLImageProcessor(
        patch_size=4,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64},
    )


def _qwen_tokenizer():
    return _tokenizer(QWEN_MARKS, pad_token="<|endoftext|>", eos_token="<|im_end|>")


def _tokenizer(marks, **named):
    """A tokenizer of known words, and of the bytes of all others, as those of GPT-2 and Qwen."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = dict.fromkeys([*marks, *alphabet, *WORDS, *(f"Ġ{word}" for word in WORDS)])
    vocabulary = {token: place for place, token in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
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
