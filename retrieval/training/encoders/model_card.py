"""Model cards: what a training run says of the encoder that it made (Mitchell et al. 2019)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieval.files import write_atomically

CARD_NAME = "README.md"

LICENCE = (
    "The licence of this model is yours to state: it depends on the licences of the weights that "
    "training began with and of the photos and captions, which this run does not know. Do not "
    "publish the model before you know both."
)
LIMITS = (
    "The weights were chosen on the validation photos below, so that the figures on these are a "
    "little too good; a test set that nothing was chosen on says more.",
    "Photos and captions unlike those that it was trained on may be found worse than before; the "
    "figures on other datasets say how much worse, where any were measured.",
    "What the captions leave out, and whom they describe how, the encoder has learned from them.",
    "Vectors of this encoder cannot be compared with those of the one that training began with: "
    "libraries are indexed again.",
)


@dataclass(frozen=True)
class Measured:
    """A metric with its 95% bootstrap interval, as shares of 1."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format in percent: `12.3 (10.1 to 14.8)`."""
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class Comparison:
    """A metric on a dataset, of the encoder before training and after it."""

    dataset: str
    metric: str
    before: Measured
    after: Measured


@dataclass(frozen=True)
class DataCard:
    """A dataset that was trained on.

    name, specification, digest: which. photos, captions: numbers of those to train on.
    validation: photos that recall was measured on. languages: of the captions.
    """

    name: str
    specification: str
    digest: str
    photos: int
    captions: int
    validation: int
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a card says.

    encoder: name of the encoder; base: of that to begin with, and base_weights: their checksum.
    command: the command line. settings: all of them. figures: quality before and after.
    shares: mean recall on validation by share of the new weights, and share: the chosen one.
    memory_bytes: peak of the process, and on the GPU if there is one.
    """

    encoder: str
    base: str
    base_weights: str
    command: str
    data: Sequence[DataCard]
    settings: Mapping[str, Any]
    figures: Sequence[Comparison]
    shares: Mapping[float, float]
    share: float
    epochs: int
    steps: int
    trained: int
    parameters: int
    seconds: float
    memory_bytes: int
    device: str
    software: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """Write the card as Markdown."""
        lines = [
            f"# {Path(self.encoder).name}",
            "",
            f"An encoder of images and texts, trained by `mmsearch train encoder` from "
            f"`{self.base}` (weights {self.base_weights}).",
            "",
            f"    mmsearch index PICTURES --encoder {self.encoder}",
            "",
            "## Data",
            "",
            "| dataset | photos | captions | photos for validation | languages | digest |",
            "|---|---:|---:|---:|---|---|",
        ]
        lines += [
            f"| {each.name} (`{each.specification}`) | {each.photos:,} | {each.captions:,} | "
            f"{each.validation:,} | {', '.join(each.languages) or 'not named'} | "
            f"{each.digest[:16]} |"
            for each in self.data
        ]
        lines += [
            "",
            "## Recipe",
            "",
            f"    {self.command}",
            "",
            "| setting | value |",
            "|---|---|",
        ]
        lines += [f"| {name} | {value} |" for name, value in sorted(self.settings.items())]
        lines += [
            "",
            f"{self.steps:,} steps in {self.epochs:,} epochs, {self.trained:,} of "
            f"{self.parameters:,} parameters trained, {self.seconds:,.0f} s on {self.device}, peak "
            f"memory {self.memory_bytes / 1e9:.1f} GB. "
            + ", ".join(f"{name} {version}" for name, version in self.software.items()),
            "",
            "## Quality",
            "",
            "In percent, with 95% bootstrap intervals over photos.",
            "",
            "| dataset | metric | before | after |",
            "|---|---|---:|---:|",
        ]
        lines += [
            f"| {each.dataset} | {each.metric} | {each.before} | {each.after} |"
            for each in self.figures
        ]
        lines += [
            "",
            f"The weights lie {100 * self.share:g}% of the way from the old ones to the trained "
            "ones (WiSE-FT, Wortsman et al. 2022)"
            + (", the best share on validation:" if len(self.shares) > 1 else "."),
        ]
        if len(self.shares) > 1:
            shares = sorted(self.shares.items())
            lines += ["", "| share | " + " | ".join(f"{share:g}" for share, _ in shares) + " |"]
            lines += ["|---|" + "---:|" * len(shares)]
            lines += ["| mean recall | " + " | ".join(f"{100 * r:.1f}" for _, r in shares) + " |"]
        lines += ["", "## Limits", "", *(f"- {limit}" for limit in (*self.notes, *LIMITS))]
        lines += ["", "## Licence", "", LICENCE, ""]
        return "\n".join(lines)

    def write(self, folder: Path) -> Path:
        """Write the card into a folder; returns its path."""
        path = folder / CARD_NAME
        write_atomically(path, self.markdown().encode())
        return path
