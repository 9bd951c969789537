"""Where the files of the library were taken."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.http.routes.dependencies import CurrentService, require
from api.http.schemas import MapPoints, MapRequest
from api.http.search_body import parse_where

router = APIRouter(prefix="/v1/map", tags=["items"], dependencies=[Depends(require("read"))])


@router.get("")
def map_points(asked: Annotated[MapRequest, Query()], service: CurrentService) -> MapPoints:
    """Count the files with coordinates in a box, by cells of a grid over it."""
    where = parse_where(asked.where)
    with service.library.catalog.snapshot() as snapshot:
        return MapPoints.of(snapshot.map_points(asked.box, cells=asked.cells, where=where))
