"""The program's own group: what is no command is a query to the library of this folder."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from shlex import join
from typing import Any

from api.cli.lazy_group import LazyGroup
from retrieval.errors import UsageError

HERE = "here"
"""Word that makes a query of what follows, even of the name of a command."""
_QUIET = frozenset({"-q", "--quiet"})
_SEARCH = ("search", "--here")
_ALIKE = 0.75
"""Ratio of `difflib` from which a word looks like a command."""


class QueryGroup(LazyGroup):
    """Commands, `help COMMAND`, and queries: `mmsearch "a dog"` is `mmsearch search --here`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after turning a query into the command that answers it."""
        own = {name for option in self.get_params(ctx) for name in option.opts}
        return super().parse_args(ctx, self.routed(quiet_first(args), own))

    def routed(self, args: list[str], own_options: set[str]) -> list[str]:
        """Put the command of a query before it, and that of `help` before `--help`.

        own_options: the flags of the program itself, which may stand first. Raises UsageError for
        what looks like a mistyped command.
        """
        count = next((n for n, arg in enumerate(args) if arg not in own_options), len(args))
        first, rest = args[:count], args[count:]
        match rest:
            case []:
                return args
            case ["help", *commands]:
                return [*first, *commands, "--help"]
            case [word, *words] if word == HERE:
                return [*first, *_SEARCH, *words]
            case [word, *_] if word in self.entries:
                return args
        self._require_no_typo(rest)
        return [*first, *_SEARCH, *rest]

    def _require_no_typo(self, words: list[str]) -> None:
        """Raise UsageError where the first of the words looks like the name of a command.

        A single word is a query as well where this folder has a library already, since a search
        changes nothing there; one with the letters of a command never is.
        """
        word = words[0]
        if word.startswith("-") or not word.isascii() or " " in word:
            return
        close = get_close_matches(word, self.entries, cutoff=_ALIKE)
        if not close:
            return
        is_mixed_up = any(Counter(word) == Counter(name) for name in close)
        is_alone = len(words) == 1 or words[1].startswith("-")
        if is_alone and not is_mixed_up and _has_library():
            return
        suggested = ", ".join(f"'{name}'" for name in close)
        raise UsageError(
            f"No such command '{word}'. Did you mean {suggested}? To search this folder for it: "
            f"mmsearch {HERE} {join(words)}"
        )


def quiet_first(args: Sequence[str]) -> list[str]:
    """Move `-q`, which every command takes, to the options of the program."""
    end = args.index("--") if "--" in args else len(args)
    kept = [arg for arg in args[:end] if arg not in _QUIET]
    return ["--quiet"] * (len(kept) < end) + kept + list(args[end:])


def _has_library() -> bool:
    from pathlib import Path

    from api.cli.folder_library import find_library

    try:
        return find_library(Path.cwd()) is not None
    except (OSError, UsageError):
        return False
