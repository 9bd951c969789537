"""`.mmsearchignore` files: what a walk passes over, written as in git's ignore files.

`.gitignore` is not honoured: photos and data sets are often kept out of git on purpose, by the very
folders that are to be searched.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

from retrieval.objects.opening import open_path
from retrieval.objects.paths import is_uri

IGNORE_FILE_NAME = ".mmsearchignore"


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One line. `regex` matches a whole path below the file's directory; None: every path."""

    regex: re.Pattern[str] | None
    directories_only: bool
    ignores: bool

    def matches(self, path: str, is_directory: bool) -> bool:
        if self.directories_only and not is_directory:
            return False
        return self.regex is None or self.regex.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """What the ignore files of a directory and of those above it say together.

    patterns: the lines of the deepest file, last one first. A path that is asked for is seen from
    that file's directory by taking off its first `cut` characters and putting `lead` before it.
    `IgnoreRules()` is of no file at all.
    """

    above: "IgnoreRules | None" = None
    patterns: tuple[_Pattern, ...] = ()
    cut: int = 0
    lead: str = ""

    def ignores(self, path: str, *, is_directory: bool) -> bool:
        """Return whether to ignore a path; its directories are known not to be ignored.

        As in git: the last matching line of the deepest file that has one decides, and nothing
        inside an ignored directory can be taken back in, since a walk does not enter it.
        """
        rules: IgnoreRules | None = self
        while rules is not None:
            below = _as_written(rules.lead + path[rules.cut :]) if rules.patterns else ""
            for pattern in rules.patterns:
                if pattern.matches(below, is_directory):
                    return pattern.ignores
            rules = rules.above
        return False


def rules_of_root(root: str) -> tuple[IgnoreRules, list[tuple[str, str]]]:
    """Read the rules of the ignore files in the directories above a root.

    Without them, a folder would hold other files when it is indexed by itself than as a part of a
    larger one. That they ignore the root itself does not count. Also gives the path of each file
    with something wrong, and what.
    """
    place = os.path.abspath(root)  # noqa: PTH100 - keeps links as named
    cut = len(root.rstrip(os.sep)) + 1
    above: list[tuple[str, str]] = []
    lead = ""
    while (parent := os.path.dirname(place)) != place:  # noqa: PTH120
        lead = os.path.basename(place) + os.sep + lead  # noqa: PTH119
        above.append((parent, lead))
        place = parent
    rules = IgnoreRules()
    problems = []
    for directory, lead in reversed(above):
        path = os.path.join(directory, IGNORE_FILE_NAME)  # noqa: PTH118
        patterns, problem = _read(path)
        if problem:
            problems.append((path, problem))
        if patterns:
            rules = IgnoreRules(rules, patterns, cut, lead)
    return rules, problems


def rules_inside(directory: str) -> IgnoreRules:
    """Read the rules for what lies in a directory, which is not ignored itself."""
    rules, _ = rules_of_root(directory)
    path = os.path.join(directory, IGNORE_FILE_NAME)  # noqa: PTH118 - keeps links as named
    return with_ignore_file(rules, path)[0]


def with_ignore_file(above: IgnoreRules, path: str) -> tuple[IgnoreRules, str | None]:
    """Add the ignore file at a path to the rules of the directories above it.

    Also gives what is wrong with the file, if anything: what can be understood of it holds all the
    same. Something that is no regular file, or is not there, says nothing.
    """
    patterns, problem = _read(path)
    cut = len(path) - len(IGNORE_FILE_NAME)
    return (IgnoreRules(above, patterns, cut) if patterns else above), problem


def _read(path: str) -> tuple[tuple[_Pattern, ...], str | None]:
    try:
        # What is a pipe would be waited for without end.
        if not is_uri(path) and not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return (), None
        with open_path(path) as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return (), None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return (), f"cannot be read, so nothing is passed over for it: {reason}"
    # Names that are not UTF-8 reach us escaped in the same way, so that lines can match them.
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    patterns: list[_Pattern] = []
    broken = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            patterns.extend(_read_line(line))
        except ValueError:
            broken.append(str(number))
    problem = f"no pattern that can be understood in line {', '.join(broken)}" if broken else None
    return tuple(reversed(patterns)), problem


def _read_line(line: str) -> Iterator[_Pattern]:
    """Parse a line's pattern, if it has one. Raises ValueError for one that git would not take.

    pathspec's expressions also match what lies below a match, which a walk must not ask for: a
    later line can take a directory back in, and what lies in it was never named. So they are only
    used on the whole path, with what pathspec adds for directories taken off and handled here.
    """
    line = _without_trailing_blanks(line.removesuffix("\r"))
    directories_only = line.endswith("/") and line.strip("/!") != ""
    if directories_only:
        line = line.removesuffix("/")
    if line.endswith("/**"):
        line += "/*"
    for pattern in GitIgnoreSpec.from_lines([line], backend="simple").patterns:
        if pattern.include is not None:
            takes_all = pattern.regex is None or pattern.regex.pattern == "."
            regex = None if takes_all else pattern.regex
            yield _Pattern(regex, directories_only, pattern.include)


def _without_trailing_blanks(line: str) -> str:
    r"""Blanks at the end do not count, except one after a backslash (`\ `)."""
    kept = line.rstrip(" ")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return kept + " " if backslashes % 2 and kept != line else kept


def _as_written(path: str) -> str:
    """Slashes between names, and no line feed, before which `$` would match too."""
    return path.replace(os.sep, "/").replace("\n", "\0")
