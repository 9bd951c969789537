"""Tiny CLAP checkpoints with random weights, and sounds: right sums, no knowledge."""

from fractions import Fraction
from pathlib import Path

import numpy as np

RATE = 16_000
"""Samples a second that the checkpoint hears; a window is one second."""
WORDS = [
    "a",
    "the",
    "of",
    "rain",
    "dog",
    "barking",
    "bell",
    "sea",
    "wind",
    "music",
    "speech",
    "piano",
    "snow",
    "and",
    "two",
]


def make_clap(folder: Path, *, seed: int = 0, fusion: bool = False) -> str:
    """Write a checkpoint as `save_pretrained` does; returns the name of its encoder."""
    import torch
    from transformers import (
        ClapAudioConfig,
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapTextConfig,
    )

    tokenizer = _tokenizer()
    text = ClapTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        max_position_embeddings=64,
        projection_dim=32,
    )
    sound = ClapAudioConfig(
        window_size=4,
        num_mel_bins=16,
        spec_size=64,
        patch_size=4,
        patch_stride=[4, 4],
        patch_embeds_hidden_size=16,
        projection_dim=32,
        depths=[2, 2],
        hidden_size=32,
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        enable_fusion=fusion,
        fusion_type="aff_2d" if fusion else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ClapModel(ClapConfig(text_config=text, audio_config=sound, projection_dim=32))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.eval().save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        frequency_max=8_000,
        truncation="fusion" if fusion else "rand_trunc",
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"clap:{folder}"


def _tokenizer():
    """Make a tokenizer of words as RoBERTa has it: <s> text </s>, padding 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=48,
    )


def tones(*pitches: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Sound some pitches in Hz one after the other, each with a bit of noise of its own."""
    parts = []
    for pitch in pitches:
        time = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(round(pitch)).normal(0, 0.05, len(time))
        parts.append(0.4 * np.sin(2 * np.pi * pitch * time) + noise)
    return np.concatenate(parts).astype(np.float32)


def write_sound(
    path: Path, samples: np.ndarray, rate: int = RATE, *, codec: str = "pcm_s16le", **tags: str
) -> Path:
    """Write a mono sound; the container is that of the file's ending."""
    import av

    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        _encode(container, stream, samples, rate)
    return path


def write_video(
    path: Path, samples: np.ndarray | None, *, seconds: int = 3, rate: int = 48_000
) -> Path:
    """Write a video of plain colours, a second each, with a sound track; None: without."""
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=rate) if samples is not None else None
        for number in range(5 * seconds):
            colour = np.full((48, 64, 3), (80 * (number // 5)) % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(colour)
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            sound.layout = "mono"
            _encode(container, sound, samples, rate)
    return path


def _encode(container, stream, samples, rate) -> None:
    import av

    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(stream.format, "mono", rate)
    fifo = av.AudioFifo()
    for each in resampler.resample(frame):
        fifo.write(each)
    size = stream.codec_context.frame_size or 1024
    while fifo.samples:
        each = fifo.read(min(size, fifo.samples))
        container.mux(stream.encode(each))
    container.mux(stream.encode(None))
