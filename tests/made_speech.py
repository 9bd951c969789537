"""A tiny Whisper that says one thing of whatever it hears, and sounds that pass for speech."""

import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

RATE = 16_000

SAID = (("the dog runs over the bridge", 0.0, 1.0), ("a red boat on the lake", 1.2, 2.4))
"""What the model says of each stretch of 30 seconds, and from when to when, in seconds."""

_VOWELS = np.array(
    [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]
)
"""Formants in Hz (Peterson and Barney 1952)."""


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Make syllables of gliding vowels, which a detector of voices takes for speech."""
    random = np.random.default_rng(seed)
    blocks: list[np.ndarray] = []
    while sum(map(len, blocks)) < seconds * RATE:
        time = np.arange(int(RATE * random.uniform(0.12, 0.28))) / RATE
        share = time / time[-1]
        pitch = random.uniform(100, 150) * (1 + random.uniform(-0.2, 0.2) * share)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        first, second = _VOWELS[random.integers(5)], _VOWELS[random.integers(5)]
        sound = np.zeros(len(time))
        for harmonic in range(1, 30):
            for place, gain in enumerate((1, 0.6, 0.3)):
                formant = first[place] * (1 - share) + second[place] * share
                away = (harmonic * pitch - formant) / (80 + 40 * place)
                sound += gain * np.exp(-(away**2)) * np.sin(harmonic * phase)
        envelope = np.minimum(1, np.minimum(time / 0.02, (time[-1] - time) / 0.04))
        blocks += [sound * envelope / 4, random.standard_normal(int(RATE * 0.05)) * 0.01]
    return np.concatenate(blocks)[: round(seconds * RATE)].astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    """Make nothing to be heard."""
    return np.zeros(round(seconds * RATE), np.float32)


def save_sound(path: Path, *parts: np.ndarray) -> Path:
    """Write parts of sound one after the other into a WAVE file."""
    samples = (np.clip(np.concatenate(parts), -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


def save_video(
    path: Path,
    sound: np.ndarray | None = None,
    seconds: float = 2.0,
    pictures: Sequence[np.ndarray] = (),
) -> Path:
    """Write a video of 5 frames a second, with a sound track if there is one.

    pictures: of each frame, (64, 64, 3) uint8; none: grey ones.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        track = container.add_stream("aac", rate=RATE, layout="mono") if sound is not None else None
        for number in range(round(seconds * 5)):
            shade = (len(path.name) * 31 + number * 9) % 255
            picture = pictures[number] if pictures else np.full((64, 64, 3), shade, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None and sound is not None:
            for start in range(0, len(sound) - 1023, 1024):
                block = (sound[start : start + 1024] * 32767).astype(np.int16)
                audio = av.AudioFrame.from_ndarray(block[np.newaxis], format="s16", layout="mono")
                audio.sample_rate, audio.pts, audio.time_base = RATE, start, Fraction(1, RATE)
                container.mux(track.encode(audio))
            container.mux(track.encode())
    return path


def save_model(folder: Path, **files: str | None) -> Path:
    """Write the files of a model of speech, which can be found and not be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = {"model.bin": "weights", "config.json": "{}", "tokenizer.json": "{}"}
    for name, content in {**usual, "vocabulary.json": "[]", **files}.items():
        if content is not None:
            (folder / name).write_text(content)
    return folder


def make_whisper(folder: Path, said: Sequence[tuple[str, float, float]] = SAID) -> Path:
    """Make a tiny Whisper with `transformers` and convert it for CTranslate2; returns its folder.

    All that is of Whisper is there: the features, an encoder, a decoder with attention to it,
    time tokens, beam search. Its weights are random but for the decoder's, which attends to
    nothing and looks at positions alone: at each it gives the token that a script has there.
    """
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import (
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    tokenizer = _tokenizer({word for text, _, _ in said for word in text.split()})
    ids = tokenizer.get_vocab()
    end = ids["<|endoftext|>"]
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(ids),
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        begin_suppress_tokens=[end],
    )
    model = WhisperForConditionalGeneration(config)
    script = [
        token
        for text, start, stop in said
        for token in (
            ids[f"<|{start:.2f}|>"],
            *(ids[f"Ġ{word}"] for word in text.split()),
            ids[f"<|{stop:.2f}|>"],
        )
    ]
    script += [end] * (config.max_target_positions - len(script))
    decoder = model.model.decoder
    with torch.no_grad():
        decoder.embed_tokens.weight.copy_(torch.randn(len(ids), config.d_model))
        decoder.embed_positions.weight.copy_(100 * decoder.embed_tokens.weight[script])
        for layer in decoder.layers:
            for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                part.weight.zero_()
                part.bias.zero_()
    whole = folder / "transformers"
    model.save_pretrained(whole)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    wrapped.save_pretrained(whole)
    WhisperFeatureExtractor().save_pretrained(whole)
    converter = TransformersConverter(
        str(whole), copy_files=["tokenizer.json", "preprocessor_config.json"]
    )
    converted = folder / "tiny-whisper"
    converter.convert(str(converted), quantization="int8")
    return converted


def _tokenizer(words: set[str]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [*alphabet, *(f"Ġ{word}" for word in sorted(words))]
    tokenizer = Tokenizer(models.BPE(vocab={each: n for n, each in enumerate(known)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ("endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm")
    names += ("startofprev", "nospeech", "notimestamps")
    times = (f"{place * 0.02:.2f}" for place in range(1501))
    tokenizer.add_special_tokens([f"<|{name}|>" for name in (*names, *times)])
    return tokenizer
