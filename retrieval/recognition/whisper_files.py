"""Find the files of a Whisper model by its name: a local folder, or a model of the hub."""

import os
from functools import partial
from pathlib import Path

import xxhash

from retrieval.encoders import hub
from retrieval.encoders.checkpoints import Parts, missing_part, of_hub
from retrieval.errors import (
    EncoderUnavailableError,
    MissingExtraError,
    UsageError,
    import_errors_as,
)

_WEIGHTS = "model.bin"
_PARTS: Parts = {
    "weights": (_WEIGHTS,),
    "configuration": ("config.json",),
    "tokenizer": ("tokenizer.json",),
    "vocabulary": ("vocabulary.json", "vocabulary.txt"),
}
"""What a converted model needs: any one file of each kind."""

_SAMPLED_BYTES = 1 << 16


def find_model(name: str) -> Path:
    """Return the folder of a model in the format of CTranslate2, downloading one of the hub.

    Within `hub.offline` nothing is downloaded. A hub that does not answer fails within 5 seconds.

    Args:
        name: a size of Whisper that faster-whisper knows, such as `base`, a repository of the hub,
            or a folder.

    Raises:
        UsageError: there is no such folder, and no such model can be on the hub.
        EncoderUnavailableError: the model cannot be had, or is not complete.
        MissingExtraError: the package faster-whisper is not installed.
    """
    with import_errors_as(MissingExtraError("Transcripts of speech", "speech")):
        import faster_whisper
    sizes = faster_whisper.available_models()
    folder = _local_folder(name, sizes)
    if folder is None:
        return _of_hub(name)
    if missing := missing_part(folder, _PARTS):
        raise EncoderUnavailableError(f"{folder} has no {missing}. {_how_to_convert(folder)}")
    return folder


def digest_of(folder: Path) -> str:
    """Identify a model by its small files, and the size, beginning and end of its weights."""
    digest = xxhash.xxh3_64()
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    with (folder / _WEIGHTS).open("rb") as file:
        digest.update(file.read(_SAMPLED_BYTES))
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _SAMPLED_BYTES))
        digest.update(file.read())
    digest.update(str(size).encode())
    return digest.hexdigest()


def _local_folder(name: str, sizes: list[str]) -> Path | None:
    """Return the folder that a name means; None for a model of the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir() and (name not in sizes or (folder / _WEIGHTS).is_file()):
        return folder.absolute()
    if name in sizes or ("/" in name and hub.is_repository_name(name)):
        return None
    raise UsageError(
        f"--transcribe {name}: there is no such folder, and no speech model of this name. Use "
        f"one of {', '.join(sizes)}, a repository of the model hub with a model in the format of "
        "CTranslate2 (OWNER/NAME), the folder of one, or `sidecar` for subtitles that lie beside "
        "the files."
    )


def _of_hub(name: str) -> Path:
    """Find a model in the hub's cache; else download it."""
    from faster_whisper import download_model

    folder = of_hub(
        f"The speech model {name}",
        partial(download_model, name),
        _PARTS,
        "fetch it elsewhere with `hf download` and name its folder (`--transcribe DIR`), use "
        "subtitles that lie beside the files (`--transcribe sidecar`), or `--no-transcribe`",
    )
    if missing := missing_part(folder, _PARTS):
        raise EncoderUnavailableError(
            f"The speech model {name} of the hub has no {missing}: it is not in the format of "
            f"CTranslate2. {_how_to_convert(Path('DIR'))}"
        )
    return folder


def _how_to_convert(folder: Path) -> str:
    return (
        "A speech model is a folder in the format of CTranslate2; a Whisper checkpoint of "
        f"transformers becomes one with: ct2-transformers-converter --model {folder} --output_dir "
        "NEW --quantization int8 --copy_files tokenizer.json preprocessor_config.json"
    )
