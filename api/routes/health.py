"""Whether the service runs."""

from fastapi import APIRouter

from api.routes.dependencies import CurrentService
from api.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz(service: CurrentService) -> Health:
    """Answer when the service can search."""
    space = service.engine.space
    with service.library.catalog.snapshot() as snapshot:
        images = snapshot.counts(space.id).images
    return Health(status="ok", encoder=space.encoder, images=images)
