"""Figures that a plan rests on, each with its unit and source (`constants.toml`)."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Constant:
    """A figure and where it is from.

    source: the command that measured it, or a publication. measured: whether this project did.
    """

    name: str
    value: float
    unit: str
    source: str
    measured: bool


@cache
def constants() -> dict[str, Constant]:
    """Read the constants, by name."""
    text = files("benchmarks.capacity").joinpath("constants.toml").read_text(encoding="utf-8")
    return {name: Constant(name, **told) for name, told in tomllib.loads(text).items()}


def value(name: str) -> float:
    """Return the value of a constant; raises KeyError for an unknown one."""
    return constants()[name].value
