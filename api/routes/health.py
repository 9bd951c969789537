"""Whether the service runs."""

from fastapi import APIRouter

from api.routes.dependencies import CurrentService
from api.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz(service: CurrentService) -> Health:
    """Answer when the service can search."""
    return Health(status="ok", encoder=service.engine.space.encoder)
