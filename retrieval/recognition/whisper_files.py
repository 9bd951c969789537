"""Find the files of a Whisper model by its name: a local folder, or a model of the hub."""

import os
from pathlib import Path

import xxhash

from retrieval.encoders import hub
from retrieval.errors import (
    EncoderUnavailableError,
    MissingExtraError,
    UsageError,
    first_line,
    import_errors_as,
)

_WEIGHTS = "model.bin"
_PARTS = {
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
    if missing := _missing_part(folder):
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

    try:
        cached = Path(download_model(name, local_files_only=True))
    except Exception:  # noqa: BLE001 - several libraries' errors have no common base
        cached = None
    if cached is not None and _missing_part(cached) is None:
        return cached
    ways_out = (
        "name the folder of a model that you have (`--transcribe DIR`), use subtitles that lie "
        "beside the files (`--transcribe sidecar`), or `--no-transcribe`"
    )
    if hub.is_switched_off():
        raise EncoderUnavailableError(
            f"The speech model {name} is not on this machine. Nothing is downloaded while "
            "HF_HUB_OFFLINE is set, nor for a library that names a model. Name it yourself, "
            f"`--transcribe {name}`, to download it; else {ways_out}."
        )
    if not hub.hub_is_reachable():
        raise EncoderUnavailableError(
            f"The speech model {name} is not on this machine and the model hub does not answer. "
            f"Connect to the network once, or fetch it elsewhere with `hf download` and copy the "
            f"folder; {ways_out}."
        )
    try:
        folder = Path(download_model(name))
    except Exception as error:  # several libraries' network errors have no common base
        reason = first_line(error)
        raise EncoderUnavailableError(
            f"The speech model {name} cannot be downloaded: {reason}. Check the name; {ways_out}."
        ) from error
    if missing := _missing_part(folder):
        raise EncoderUnavailableError(
            f"The speech model {name} of the hub has no {missing}: it is not in the format of "
            f"CTranslate2. {_how_to_convert(Path('DIR'))}"
        )
    return folder


def _missing_part(folder: Path) -> str | None:
    for part, files in _PARTS.items():
        if not any((folder / file).is_file() for file in files):
            return f"{part} ({' or '.join(files)})"
    return None


def _how_to_convert(folder: Path) -> str:
    return (
        "A speech model is a folder in the format of CTranslate2; a Whisper checkpoint of "
        f"transformers becomes one with: ct2-transformers-converter --model {folder} --output_dir "
        "NEW --quantization int8 --copy_files tokenizer.json preprocessor_config.json"
    )
