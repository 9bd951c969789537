"""Errors over the wire."""

from pydantic import BaseModel


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
