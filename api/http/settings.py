"""Settings of the service, from options and `MMSEARCH_*` environment variables."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

WordList = Annotated[tuple[str, ...], NoDecode]
"""In the environment: words with commas or spaces between."""

PathList = Annotated[tuple[Path, ...], NoDecode]
"""In the environment: paths as in PATH, with colons (semicolons on Windows) between."""


class ServiceSettings(BaseSettings):
    """Where the service listens, who may ask, how much it takes on, and how it ranks.

    Options of `mmsearch serve` win over the environment.
    """

    model_config = SettingsConfigDict(
        env_prefix="MMSEARCH_", extra="ignore", validate_assignment=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
    rerank: str = "auto"
    uploads: Path | None = None
    """The folder for files that clients add to the library; None: they may not."""
    index_below: PathList = ()
    """Folders besides the library's sources that clients may have indexed."""

    api_keys: str = Field(default="", repr=False)
    """Keys themselves, `NAME:SCOPES:SECRET`, with spaces or line ends between."""
    api_keys_file: Path | None = None
    allowed_hosts: WordList = ()
    """Names besides the loopback ones that a client may have reached the service by."""
    cors_origins: WordList = ()
    """Web sites whose scripts may use the service, such as `https://example.org`."""
    rate_limit: str = "500/second"
    """Of each key or, without keys, of each client's address."""

    batch: int = Field(default=32, ge=1, le=1024)
    """Searches encoded together at most; 1 answers them one by one."""
    batch_wait_ms: float = Field(default=5.0, ge=0, le=1000)
    """How long a search may wait for others to go with it, when others are expected."""
    queue: int = Field(default=256, ge=1, le=100_000)
    """Requests that wait for the encoder at most."""
    deadline_s: float = Field(default=10.0, gt=0, le=3600)
    """What a request may take, waiting included."""
    shutdown_s: float = Field(default=10.0, gt=0, le=3600)
    """What is in flight when the service is told to end may take so long."""
    max_body_mb: float = Field(default=50.0, gt=0, le=10_000)
    """The largest request body, in millions of bytes."""
    max_pixels: float = Field(default=50.0, gt=0, le=179)
    """The largest picture that is decoded for a client, in millions of pixels."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = False
    """One JSON object a request, on standard error."""

    @field_validator("allowed_hosts", "cors_origins", mode="before")
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
        """Whether only this machine can reach the service."""
        return is_loopback_name(self.host)


def is_loopback_name(host: str) -> bool:
    """Whether a host name or address, IPv6 without brackets, means this machine alone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
