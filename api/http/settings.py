"""Service settings from options and `MMSEARCH_*` environment variables."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

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
    rerank: str = "auto"
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
    """Host names that requests may use, besides those of the loopback interface."""
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

    @field_validator("allowed_hosts", "cors_origins", "spaces", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("index_below", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        paths = value.split(os.pathsep) if isinstance(value, str) else value
        return [path for path in paths if path] if isinstance(paths, list) else paths

    @property
    def is_loopback(self) -> bool:
        """Return whether the service is reachable from this machine only."""
        return is_loopback_name(self.host)


def is_loopback_name(host: str) -> bool:
    """Return whether a host name or address (IPv6 without brackets) is a loopback one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
