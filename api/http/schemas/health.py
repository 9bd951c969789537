"""Whether the service runs."""

from pydantic import BaseModel


class Health(BaseModel):
    """That the service runs, and over what."""

    status: str
    encoder: str
