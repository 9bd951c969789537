"""Image-to-text checkpoints of random weights, tiny, as `save_pretrained` writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tiny_blip import SPECIAL, image_tower, processors, text_tower

WORDS = [
    "a",
    "the",
    "of",
    "on",
    "in",
    "dog",
    "dogs",
    "two",
    "cats",
    "mat",
    "snow",
    "red",
    "ball",
    "how",
    "many",
    "?",
    ",",
    ".",
]
_SPECIAL = {
    "gpt2": ["<|endoftext|>"],
    "qwen2-vl": [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ],
    "idefics3": [
        "<|endoftext|>",
        "<|im_start|>",
        "<end_of_utterance>",
        "<fake_token_around_image>",
        "<image>",
        "<global-img>",
    ],
}
_QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }} "
    "{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
_IDEFICS3_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message.role }} "
    "{% for part in message.content %}{% if part.type == 'image' %}<image>{% else %}"
    "{{ part.text }}{% endif %}{% endfor %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def make_captioner(kind: str, folder: Path) -> None:
    """Write a checkpoint of a kind: blip, blip-vqa, vit-gpt2, qwen2-vl or idefics3."""
    folder.mkdir(parents=True)
    makers: dict[str, Callable[[Path], Any]] = {
        "blip": lambda folder: _blip(folder, "BlipForConditionalGeneration"),
        "blip-vqa": lambda folder: _blip(folder, "BlipForQuestionAnswering"),
        "vit-gpt2": _vit_gpt2,
        "qwen2-vl": _qwen2_vl,
        "idefics3": _idefics3,
    }
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = makers[kind](folder)
        with torch.no_grad():  # as initialized, it would write one word for ever
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)


def _blip(folder: Path, class_name: str) -> Any:
    import transformers

    for part in processors(folder, WORDS, more=["[DEC]"], bos_token="[DEC]"):
        part.save_pretrained(folder)
    config = transformers.BlipConfig(
        text_config=text_tower(
            len(SPECIAL) + 1 + len(WORDS),
            64,
            encoder_hidden_size=32,
            bos_token_id=5,
            eos_token_id=2,
            pad_token_id=0,
            sep_token_id=3,
        ),
        vision_config=image_tower(32),
        image_text_hidden_size=16,
    )
    return getattr(transformers, class_name)(config)


def _vit_gpt2(folder: Path) -> Any:
    import transformers

    tokenizer = _tokenizer("gpt2", eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    encoder = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
    )
    decoder = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = 0
    return transformers.VisionEncoderDecoderModel(config)


def _qwen2_vl(folder: Path) -> Any:
    import transformers

    tokenizer = _tokenizer("qwen2-vl", eos_token="<|im_end|>", pad_token="<|endoftext|>")
    transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(),
        chat_template=_QWEN_TEMPLATE,
    ).save_pretrained(folder)
    config = transformers.Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        vision_start_token_id=3,
        vision_end_token_id=4,
        image_token_id=5,
        video_token_id=6,
    )
    return transformers.Qwen2VLForConditionalGeneration(config)


def _idefics3(folder: Path) -> Any:
    import transformers

    tokenizer = _tokenizer("idefics3", eos_token="<end_of_utterance>", pad_token="<|endoftext|>")
    transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=False
        ),
        tokenizer,
        image_seq_len=4,
        chat_template=_IDEFICS3_TEMPLATE,
    ).save_pretrained(folder)
    config = transformers.Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=4,
        scale_factor=2,
        pad_token_id=0,
    )
    return transformers.Idefics3ForConditionalGeneration(config)


def _tokenizer(kind: str, **special: str) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate([*_SPECIAL[kind], "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        additional_special_tokens=_SPECIAL[kind],
        **special,
    )
