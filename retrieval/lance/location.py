"""Where a table is: `lance:DIR`, `lance+s3://BUCKET/PREFIX`, and the like of other stores."""

import os
import re
from pathlib import Path

from retrieval.errors import UsageError
from retrieval.files import expand_home

_LOCATION = re.compile(r"lance(?:\+([a-z0-9]+)://|:)(.*)", re.DOTALL)
_STORES = ("s3", "gs", "az")
_FROM_ENVIRONMENT = {
    "aws_access_key_id": ("AWS_ACCESS_KEY_ID",),
    "aws_secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "aws_session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
}
"""Options of Lance's S3 store, by the variables that AWS's own tools read.

The other stores read their variables themselves.
"""


def is_lance(location: str | os.PathLike[str]) -> bool:
    """Return whether a location is that of a table, by its scheme."""
    return _LOCATION.fullmatch(os.fspath(location)) is not None


def spelled(text: str | os.PathLike[str]) -> str:
    """Spell the location of a table, which may be given as a directory or a URI of a store."""
    text = os.fspath(text)
    if is_lance(text):
        return text
    return f"lance+{text}" if "://" in text else f"lance:{text}"


def parse(location: str | os.PathLike[str]) -> tuple[str, dict[str, str]]:
    """Return the URI of a table and the options of its store, from the environment.

    Raises UsageError for a location that names none.
    """
    text = os.fspath(location)
    found = _LOCATION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} is not the location of a Lance table: write lance:DIR or "
            "lance+s3://BUCKET/PREFIX."
        )
    store, place = found.groups()
    if store is None:
        if not place or "\0" in place or "://" in place:
            raise UsageError(f"{text!r} names no directory: write lance:DIR.")
        try:
            return str(expand_home(Path(place)).absolute()), {}
        except ValueError as error:
            raise UsageError(f"{error}.") from None
    if store not in _STORES:
        known = ", ".join(f"lance+{name}://" for name in _STORES)
        raise UsageError(f"{text!r}: tables are in a directory (lance:DIR) or behind {known}.")
    bucket, _, prefix = place.rstrip("/").partition("/")
    if not bucket or not prefix or re.search(r"[\s\0?#]|(^|/)\.\.?(/|$)", place):
        raise UsageError(f"{text!r} names no table: write lance+{store}://BUCKET/PREFIX.")
    return f"{store}://{bucket}/{prefix}", _s3_options() if store == "s3" else {}


def _s3_options() -> dict[str, str]:
    options = {
        option: value
        for option, names in _FROM_ENVIRONMENT.items()
        if (value := next((os.environ[n] for n in names if os.environ.get(n)), None))
    }
    if options.get("endpoint", "").startswith("http://"):
        options["allow_http"] = "true"
    return options
