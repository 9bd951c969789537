"""Schema of liveness and readiness."""

from pydantic import BaseModel


class Health(BaseModel):
    """Status of the service, and its encoder; without a library, what to do."""

    status: str
    encoder: str | None = None
    detail: str | None = None
    first_command: str | None = None
    may_create: bool | None = None
