"""Paths as a catalog stores them: absolute, as text, perhaps of another machine or system."""

import os
import re

from retrieval.files import GIVEN
from retrieval.objects import opening
from retrieval.objects.paths import is_object, is_uri

_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]?|\\\\")


def separator_of(path: str) -> str:
    """Return what separates the names of an absolute path, of this system or another one."""
    if path.startswith("/") or is_uri(path):
        return "/"
    return "\\" if _OF_WINDOWS.match(path) else os.sep


def below(root: str) -> str:
    """Return the prefix of every path below this one."""
    separator = separator_of(root)
    return root.rstrip(separator) + separator


def is_at_or_below(path: str, root: str) -> bool:
    """Return whether a path is another one or lies below it."""
    return path == root or path.startswith(below(root))


def relative_to(path: str, root: str) -> str:
    """Return the way from a path to one below it, in the separators of this system; "" to itself.

    The path must lie at or below the root.
    """
    rest = "" if path == root else path.removeprefix(below(root))
    return rest.replace(separator_of(root), os.sep)


def reroot(path: str, old: str, new: str) -> str:
    """Return where a path at or below `old` lies when that is found at `new`."""
    rest = "" if path == old else path.removeprefix(below(old))
    return below(new) + rest.replace(separator_of(old), separator_of(new)) if rest else new


def is_virtual(path: str) -> bool:
    """Return whether a path names an item that was added with its vector, and no file."""
    return path.startswith(GIVEN)


def is_there(path: str) -> bool:
    """Return whether there is a file or a non-empty folder at a path, or something unreadable.

    An empty folder is what the place of a drive that is not mounted looks like. A server is not
    asked: what lies there counts as there.
    """
    if is_object(path):
        return opening.is_there(path)
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except (FileNotFoundError, ValueError):
        return False
    except NotADirectoryError:
        return os.path.exists(path)  # noqa: PTH110 - a file, or below one
    except OSError:
        return True


def is_gone(path: str) -> bool:
    """Return whether there is certainly nothing at a path, also no broken symlink.

    Of what lies on a server that is not certain.
    """
    if is_object(path):
        return not opening.is_there(path)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False
