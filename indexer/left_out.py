"""Say which files a library leaves out because none of its encoders takes them."""

from collections.abc import Iterable, Mapping

from retrieval.encoders.modalities import kinds_of
from retrieval.media import MediaKind, Modality

_NAMES = {
    MediaKind.AUDIO: ("sound file", "sound", "clap:NAME_OR_DIR"),
    MediaKind.IMAGE: ("image", "pictures", "auto"),
}
"""Of kinds that one modality alone reads: a file, what the encoder lacks, and one that has it."""


def advice_on_left_out(
    left_out: Mapping[MediaKind, int], modalities: Iterable[Modality]
) -> list[str]:
    """Say how many new files were left out, and how to make them searchable.

    Args:
        left_out: Number of files that the encoder of a run takes nothing of, by kind.
        modalities: Of all encoders of the library: what another one takes is left to its run.
    """
    kinds = kinds_of(modalities)
    return [
        _advice(kind, left_out[kind])
        for kind in MediaKind
        if left_out.get(kind) and kind not in kinds
    ]


def _advice(kind: MediaKind, count: int) -> str:
    name, what, encoder = _NAMES.get(kind, (f"{kind} file", f"{kind}s", "auto"))
    were = "was" if count == 1 else "were"
    return (
        f"{count:,} {name}{'' if count == 1 else 's'} {were} left out: no encoder of this library "
        f"takes {what}. `mmsearch index --encoder {encoder} --space new` adds one that does."
    )
