"""Addresses that a user has named, and that libraries may lead this program to."""

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from retrieval.files import write_atomically

_BETWEEN = re.compile(r"\s+(?=[A-Za-z0-9+.-]+://)")
"""Keys of an object store may hold blanks."""


@dataclass(frozen=True)
class TrustedAddresses:
    """A record of this user, in a file and, for services, in an environment variable.

    variable: names addresses, separated by blanks; child processes have them, too. file_name: in
    the user's configuration directory.
    """

    variable: str
    file_name: str

    @property
    def file(self) -> Path:
        """Where the addresses are recorded; raises RuntimeError for a user without a home."""
        return platformdirs.user_config_path("mmsearch", appauthor=False) / self.file_name

    def all(self) -> list[str]:
        """List the addresses that the user has named, sorted."""
        return sorted({*self._recorded(), *self.of_process()})

    def add(self, address: str) -> None:
        """Trust an address from now on; where that cannot be recorded, in this process."""
        if address not in self.all():
            self.add_to_process(address)
            with suppress(OSError):
                self.record(address)

    def add_to_process(self, address: str) -> None:
        """Trust an address in this process and its children, without recording it."""
        os.environ[self.variable] = " ".join([*self.of_process(), address])

    def record(self, address: str) -> None:
        """Record an address; raises OSError where that is not possible."""
        self._write({*self._recorded(), address})

    def remove(self, address: str) -> bool:
        """Forget an address; returns whether it was recorded. Raises OSError."""
        if self.variable in os.environ:
            kept = [each for each in self.of_process() if each != address]
            os.environ[self.variable] = " ".join(kept)
        recorded = self._recorded()
        if address not in recorded:
            return False
        self._write(recorded - {address})
        return True

    def of_process(self) -> list[str]:
        """List the addresses that the environment names."""
        return [one for one in _BETWEEN.split(os.environ.get(self.variable, "").strip()) if one]

    def _recorded(self) -> set[str]:
        try:
            addresses = json.loads(self.file.read_text(encoding="utf-8"))
            return {address for address in addresses if isinstance(address, str)}
        except (OSError, ValueError, TypeError, RuntimeError):  # the last: nested too deeply
            return set()

    def _write(self, addresses: set[str]) -> None:
        try:
            file = self.file
        except RuntimeError as error:
            raise OSError(None, "this user has no home directory") from error
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(sorted(addresses), indent=1).encode(), durable=True)
