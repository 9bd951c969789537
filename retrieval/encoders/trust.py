"""Paths that a library may use although they lie outside of it, or came with it.

A library from a stranger is data: it can name a folder with an encoder, and hold links. Neither is
followed unless the user named that path: with `--encoder` or `mmsearch trust`, which are recorded
for this user, or in `MMSEARCH_TRUSTED`, for services and users without a home.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote

import platformdirs

from retrieval.encoders.exports.store import BF16, LOCAL_DIR, OPEN_CLIP
from retrieval.errors import EncoderUnavailableError, LibraryError, UsageError
from retrieval.files import write_atomically

VARIABLE = "MMSEARCH_TRUSTED"
"""Environment variable: trusted paths, separated as in PATH."""

_named: set[Path] = set()
"""Paths that this process was given."""


def record_file() -> Path:
    """Where the paths are recorded that this user has named."""
    return platformdirs.user_config_path("mmsearch", appauthor=False) / "trusted.json"


def trusted_paths() -> list[Path]:
    """List the paths that the user has named, sorted: recorded, of this process, by variable."""
    configured = os.environ.get(VARIABLE, "").split(os.pathsep)
    return sorted({*_recorded(), *_named, *(Path(p).absolute() for p in configured if p)})


def is_trusted(path: Path) -> bool:
    """Return whether a path, its links followed, is a trusted one or lies below one."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(each)) for each in trusted_paths())


def trust(path: Path) -> None:
    """Trust a path from now on; raises OSError where that cannot be recorded."""
    path = path.absolute()
    _named.add(path)
    recorded = _recorded()
    if path not in recorded:
        _write({*recorded, path})


def distrust(path: Path) -> bool:
    """Forget a recorded path; returns whether it was recorded. Raises OSError."""
    path = path.absolute()
    _named.discard(path)
    recorded = _recorded()
    if path not in recorded:
        return False
    _write(recorded - {path})
    return True


def trust_named_encoder(name: str) -> None:
    """Trust the folder or file of an encoder that the user has named, if its name has one."""
    path = path_of_encoder(name)
    if path is not None:
        trust_folder(path)


def trust_folder(path: Path) -> None:
    """Trust the folder of a model that the user has named."""
    if not is_trusted(path):
        with suppress(OSError):  # then for this process
            trust(path)


def require_trusted_model(name: str) -> None:
    """Raise UsageError for a folder of a model that a library names and the user never did."""
    path = Path(name).expanduser().absolute()
    if not path.is_dir() or is_trusted(path):
        return
    raise UsageError(
        f"The library names a model in {path}, which you have never named with an option. Nothing "
        f"of it was read. If you know where it is from, allow it once: `mmsearch trust "
        f"{quote(str(path))}` (for a service, set {VARIABLE}={quote(str(path))})."
    )


def require_trusted_encoder(name: str) -> None:
    """Raise EncoderUnavailableError for an encoder that a library names and the user never did."""
    path = path_of_encoder(name)
    if path is None or is_trusted(path):
        return
    origin = next((f" It lies in the library {lib}." for lib in _libraries_above(path)), "")
    raise EncoderUnavailableError(
        f"The library names the encoder {name}, which you have never named with `--encoder`."
        f"{origin} Nothing of it was read. If you know where it is from, allow it once: `mmsearch "
        f"trust {quote(str(path))}` (for a service, set {VARIABLE}={quote(str(path))})."
    )


def require_inside(directory: Path, paths: Iterator[Path]) -> None:
    """Raise LibraryError for a link among paths of a library that leads out of it."""
    for path in paths:
        if not path.is_symlink():
            continue
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(os.path.realpath(directory)) and not is_trusted(target):
            raise LibraryError(
                f"{path} is a link that leads out of the library, to {target}. A library from "
                "elsewhere may not do that. If the link is your own, allow it once: `mmsearch "
                f"trust {quote(str(target))}` (for a service, set {VARIABLE})."
            )


def path_of_encoder(name: str) -> Path | None:
    """Return the folder or file that an encoder's name stands for; None for all others."""
    plain = name.removesuffix(BF16)
    if plain.startswith(LOCAL_DIR):
        return Path(plain.removeprefix(LOCAL_DIR)).absolute()
    file = Path(plain.removeprefix(OPEN_CLIP).partition("/")[2])
    if plain.startswith(OPEN_CLIP) and (file.is_absolute() or file.is_file()):
        return file.absolute()
    return None


def _libraries_above(path: Path) -> Iterator[Path]:
    return (folder for folder in path.parents if (folder / "library.toml").is_file())


def _recorded() -> set[Path]:
    try:
        paths = json.loads(record_file().read_text(encoding="utf-8"))
        return {Path(path) for path in paths if isinstance(path, str)}
    except (OSError, ValueError, TypeError, RuntimeError):  # the last: no home, nested too deeply
        return set()


def _write(paths: set[Path]) -> None:
    file = record_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(sorted(map(str, paths)), indent=1)
    write_atomically(file, content.encode("utf-8", "surrogatepass"), durable=True)
