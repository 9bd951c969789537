"""Schema of liveness and readiness."""

from pydantic import BaseModel


class Health(BaseModel):
    """Status of the service, and its encoder."""

    status: str
    encoder: str
