"""Progress bars, where somebody asked for them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def track(
    values: Iterable[_T], name: str, total: int | None, is_shown: bool = True
) -> Iterable[_T]:
    """Pass values on, with a progress bar if it is to be shown. total: their number, if known."""
    if not is_shown:
        return values
    from rich.progress import track as tracked

    return tracked(values, description=name, total=total)


@contextmanager
def bar(name: str, is_shown: bool) -> "Iterator[Callable[[int, int | None], None]]":
    """Show a progress bar; yields what takes how much is done, and of how much, if known."""
    if not is_shown:
        yield lambda _done, _total: None
        return
    from rich.progress import Progress

    with Progress() as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
