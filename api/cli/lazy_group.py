"""Command groups that import a command when it is run, and list all without importing any."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, Self

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

_UsageError: Any = typer.BadParameter.__base__
"""Error of any argument; Typer exports only this kind of it."""


_type_of = getattr(TyperOption, "display_type_rich", None)


def _type_of_values(option: Any, ctx: Any) -> str | None:
    """Return what help shows as the type of an option's value: nothing for flags."""
    return None if option.is_bool_flag or _type_of is None else _type_of(option, ctx)


TyperOption.display_type_rich = _type_of_values  # type: ignore[method-assign, assignment]


class Entry(NamedTuple):
    """A command of a group.

    target: "module:attribute", a function or a `typer.Typer`. help: what lists of commands show of
    its help, which is the first paragraph. command_class: name of its class in the same module.
    panel: heading that it stands under in lists.
    """

    target: str
    help: str
    command_class: str | None = None
    panel: str | None = None


class _Commands(Mapping[str, Any]):
    """Commands by name; each is imported when it is looked up."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._entries[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class LazyGroup(TyperGroup):
    """A group of the commands in `entries`, in their order; made by `lazy_group`."""

    entries: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(self.entries)  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        """List the names of the commands in the order of the entries."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the group."""
        super(LazyGroup, self._outline()).format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the name of a command."""
        of_outline = copy(ctx)
        of_outline.command = self._outline()
        return super(LazyGroup, of_outline.command).shell_complete(of_outline, incomplete)

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Parse the arguments of the group; errors name them with control characters escaped."""
        with _arguments_escaped():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Parse the arguments of the command, likewise, and run it."""
        with _arguments_escaped():
            return super().invoke(ctx)

    def _outline(self) -> Self:
        """Copy the group, with stand-ins for its commands that have a name and a help alone."""
        outline = copy(self)
        outline.commands = {
            name: TyperCommand(name, help=entry.help, rich_help_panel=entry.panel)
            for name, entry in self.entries.items()
        }
        return outline


def lazy_group(
    entries: Mapping[str, Entry], *, base: type[LazyGroup] = LazyGroup, **settings: Any
) -> typer.Typer:
    """Make a group of these commands; base: its class; settings: as `typer.Typer` takes them."""
    group = type(base.__name__, (base,), {"entries": entries})
    # Typer makes no group of nothing but a class, unless it has a callback.
    return typer.Typer(cls=group, **{"callback": lambda: None} | settings)


@contextmanager
def _arguments_escaped() -> Iterator[None]:
    """Escape in the errors of options and arguments what would direct the terminal."""
    try:
        yield
    except _UsageError as error:
        from api.printable import escape_controls

        error.message = escape_controls(error.message)
        raise


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage while modules are imported.

    Imports make many objects that stay, and looking through them again and again takes time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(name: str, entry: Entry) -> Any:
    """Import a command; the result is of Typer, and may be a group itself."""
    module_name, _, attribute = entry.target.partition(":")
    with without_collections():
        module = import_module(module_name)
    found = getattr(module, attribute)
    parent = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
        group: Any = typer.main.get_command(parent)
        return group.commands[name]
    command_class = getattr(module, entry.command_class) if entry.command_class else None
    parent.command(name, cls=command_class)(found)
    return typer.main.get_command(parent)
