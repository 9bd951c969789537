"""Service settings from options and `MMSEARCH_*` environment variables."""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.http.middleware.proxies import parse_network
from api.http.root_path import parse_root_path
from retrieval.files import expand_home
from retrieval.objects.paths import given_uri

WordList = Annotated[tuple[str, ...], NoDecode]
"""In the environment: separated by commas or spaces."""

PathList = Annotated[tuple[Path, ...], NoDecode]
"""In the environment: separated like PATH, by colons (semicolons on Windows)."""


class ServiceSettings(BaseSettings):
    """Address, access, limits and ranking of the service.

    Options of `mmsearch serve` take precedence over the environment.
    """

    model_config = SettingsConfigDict(
        env_prefix="MMSEARCH_", extra="ignore", validate_assignment=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
    socket_only: bool = False
    """Listen for commands on this machine only, through a Unix socket, and on no port."""
    idle_exit_minutes: float | None = Field(default=None, gt=0, le=1_000_000)
    """End when no request has come for this time; None: never."""
    rerank: str = "auto"
    background_tokens: bool = True
    """Make what the reranker needs of the items that are shown, while nobody asks."""
    captions: str | None = None
    """Image-to-text model that describes images for clients; None: none."""
    spaces: WordList = ()
    """Ids of the vector spaces that can be searched, the first by default; none: the library's."""
    uploads: Path | None = None
    """Directory for uploads; None: no uploads."""
    index_below: PathList = ()
    """Directories in which clients may index paths, besides the library's sources."""

    api_keys: str = Field(default="", repr=False)
    """API keys, `NAME:SCOPES:SECRET`, separated by white space."""
    api_keys_file: Path | None = None
    allowed_hosts: WordList = ()
    """Host names that requests may use, besides those of the loopback interface; with a port, the
    pages of this service only have that one."""
    root_path: str = ""
    """Sub-path at which a proxy serves the service, such as `/photos`."""
    trusted_proxies: WordList = ()
    """Addresses and networks of proxies whose `X-Forwarded-*` headers count."""
    cors_origins: WordList = ()
    """Web origins whose scripts may use the service (CORS), such as `https://example.org`."""
    rate_limit: str = "500/second"
    """Rate limit per API key or, without keys, per client address."""

    max_connections: int = Field(default=1000, ge=1, le=1_000_000)
    """Maximum number of connections; fewer where the process may open fewer files."""
    max_connections_per_address: int = Field(default=256, ge=1, le=1_000_000)
    """Maximum number of connections of a client address."""

    batch: int = Field(default=32, ge=1, le=1024)
    """Maximum number of searches in a batch; 1 disables batching."""
    batch_wait_ms: float = Field(default=5.0, ge=0, le=1000)
    """Maximum time that a search waits for others to form a batch, if others are expected."""
    queue: int = Field(default=256, ge=1, le=100_000)
    """Maximum queue length of requests for the encoder."""
    deadline_s: float = Field(default=10.0, gt=0, le=3600)
    """Time limit per request, with the wait in the queue."""
    shutdown_s: float = Field(default=10.0, gt=0, le=3600)
    """Grace period for requests in flight at shutdown."""
    max_body_mb: float = Field(default=50.0, gt=0, le=10_000)
    """Maximum size of request bodies in MB (10^6 bytes)."""
    max_pixels: float = Field(default=50.0, gt=0, le=179)
    """Maximum size of images decoded for clients, in megapixels."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = False
    """Log each request as a JSON line on standard error."""

    @field_validator("allowed_hosts", "cors_origins", "spaces", "trusted_proxies", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        name = value.strip().removeprefix("[").removesuffix("]")
        if not is_address(name) and not _NAME.fullmatch(name):
            raise ValueError(
                f"{value!r} is not an address to listen on: write 127.0.0.1, ::1 or 0.0.0.0, for "
                "example, and the port with `--port`"
            )
        return name

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_host_name, value))

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_origin, value))

    @field_validator("root_path")
    @classmethod
    def _sub_path(cls, value: str) -> str:
        return parse_root_path(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(parse_network, value))

    @field_validator("uploads", "api_keys_file")
    @classmethod
    def _path(cls, value: Path | None) -> Path | None:
        return value and expand_home(value)

    @field_validator("index_below")
    @classmethod
    def _all_paths(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(Path(given_uri(path) or expand_home(path)) for path in value)

    @field_validator("index_below", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        paths = _BETWEEN_PATHS.split(value) if isinstance(value, str) else value
        return [path for path in paths if path] if isinstance(paths, list) else paths

    @property
    def is_loopback(self) -> bool:
        """Return whether the service is reachable from this machine only."""
        return is_loopback_name(self.host)


_BETWEEN_PATHS = re.compile(rf"{re.escape(os.pathsep)}(?!//|\d+(?:/|$))")
"""Not the colons of `s3://` and `https://host:8443/`."""
_NAME = re.compile(r"([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.?)*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def _host_name(text: str) -> str:
    """Normalise `NAME` or `NAME:PORT`: lower case, names of other scripts in Punycode."""
    wrong = ValueError(
        f"{text!r} is not a host name: write photos.example.org or photos.example.org:8443, for "
        "example, without https:// and path. Every name is listed; there are no wildcards"
    )
    if is_address(text) and ":" in text:
        return f"[{text}]"
    try:
        parts = urlsplit(f"//{text}")
        name, port = _ascii_name(parts.hostname or ""), parts.port
    except ValueError:
        raise wrong from None
    if not name or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise wrong
    return name if port is None else f"{name}:{port}"


def _origin(text: str) -> str:
    """Normalise an origin as browsers write it: lower case, without a default port and slash."""
    if text == "*":
        return text
    wrong = ValueError(
        f"{text!r} is not a web origin: write https://example.org or http://localhost:3000, for "
        "example, without a path"
    )
    try:
        parts = urlsplit(text)
        name, port = _ascii_name(parts.hostname or ""), parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _DEFAULT_PORTS or not name or parts.username is not None:
        raise wrong
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise wrong
    shown = "" if port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{name}{shown}"


def _ascii_name(name: str) -> str:
    """Return a host name in lower case and ASCII, IPv6 in brackets, or raise ValueError."""
    if is_address(name):
        return f"[{name}]" if ":" in name else name
    ascii_name = name.encode("idna").decode().lower().removesuffix(".")
    if not _NAME.fullmatch(ascii_name):
        raise ValueError(name)
    return ascii_name


def is_address(host: str) -> bool:
    """Return whether a host is an IP address (IPv6 without brackets)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback_name(host: str) -> bool:
    """Return whether a host name or address (IPv6 without brackets) is a loopback one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
