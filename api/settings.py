"""Settings of the service, from options and `MMSEARCH_*` environment variables."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Where the service listens. Options of `mmsearch serve` win over the environment."""

    model_config = SettingsConfigDict(env_prefix="MMSEARCH_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
