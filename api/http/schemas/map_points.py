"""Schemas of the map."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.items import FilterText
from retrieval.catalog import MapPoint
from retrieval.filters import GeoBox


class MapRequest(BaseModel):
    """What a map shows: a box in degrees, and how finely."""

    model_config = ConfigDict(extra="forbid")

    south: Annotated[float, Field(ge=-90, le=90)] = -90.0
    north: Annotated[float, Field(ge=-90, le=90)] = 90.0
    west: Annotated[float, Field(ge=-180, le=180)] = -180.0
    east: Annotated[
        float, Field(ge=-180, le=180, description="Less than `west` across the 180th meridian.")
    ] = 180.0
    cells: Annotated[
        int, Field(ge=1, le=200, description="Number of cells along each side of the box.")
    ] = 40
    where: FilterText = None

    @property
    def box(self) -> GeoBox:
        """The box as filters have it."""
        return GeoBox(south=self.south, north=self.north, west=self.west, east=self.east)


class MapPointSchema(BaseModel):
    """Files that were taken near each other, in a cell of the box."""

    latitude: Annotated[float, Field(description="Mean of the files, in degrees.")]
    longitude: Annotated[float, Field(description="Mean of the files, in degrees.")]
    count: Annotated[int, Field(description="Number of files.")]
    item_id: Annotated[int, Field(description="An item of one of them.")]


class MapPoints(BaseModel):
    """Where the files of a library were taken; those of most files first."""

    total: Annotated[int, Field(description="Number of files inside the box.")]
    points: list[MapPointSchema]

    @classmethod
    def of(cls, points: list[MapPoint]) -> Self:
        """Convert the points of the catalog."""
        return cls(
            total=sum(point.count for point in points),
            points=[
                MapPointSchema(
                    latitude=point.latitude,
                    longitude=point.longitude,
                    count=point.count,
                    item_id=point.item_id,
                )
                for point in points
            ],
        )
