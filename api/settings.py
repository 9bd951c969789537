"""Settings of the service, from options and `MMSEARCH_*` environment variables."""

from ipaddress import ip_address

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Where the service listens and how it ranks.

    Options of `mmsearch serve` win over the environment.
    """

    model_config = SettingsConfigDict(env_prefix="MMSEARCH_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
    rerank: str = "auto"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
