"""Logs of a training run: a CSV file, and event files for TensorBoard."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.errors import EncoderUnavailableError
from retrieval.files import write_atomically

LOG_NAME = "log.csv"
TENSORBOARD_NAME = "tensorboard"
COLUMNS = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "pairs_per_second",
    "t2i_r1",
    "t2i_r5",
    "t2i_r10",
    "i2t_r1",
    "i2t_r5",
    "i2t_r10",
)


class TrainingLog:
    """Writes a row of numbers a number of steps, and one of recalls an epoch.

    `log.csv` has the `COLUMNS`; a row leaves empty what it does not tell. A resumed run drops the
    rows after the step that it goes on from.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        """Prepare the log in a folder; raises EncoderUnavailableError without TensorBoard."""
        self._file = folder / LOG_NAME
        self._writer: Any = None
        self._folder = folder / TENSORBOARD_NAME
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise EncoderUnavailableError(
                    "--tensorboard needs the package tensorboard, which is not installed: `pip "
                    "install tensorboard`. log.csv is written without it."
                ) from error
            self._writer = SummaryWriter

    def begin(self, step: int) -> None:
        """Open the log after a step, 0 for a new run; rows of later steps are dropped."""
        rows = []
        if step and self._file.exists():
            with self._file.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if _step(row) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._file, text.getvalue().encode())
        if self._writer is not None:
            self._writer = self._writer(str(self._folder), purge_step=step + 1)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add a row of some `COLUMNS`."""
        with self._file.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow({"step": step, **numbers})
        if self._writer is not None:
            for name, value in numbers.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        """Close the event files."""
        if self._writer is not None and not isinstance(self._writer, type):
            self._writer.close()


def _step(row: Mapping[str, str | None]) -> int:
    try:
        return int(row.get("step") or 0)
    except ValueError:
        return 0
