"""The browser and the services that all tests of the page share."""

from tests.api.http.routes.test_page import browser, photo_library

__all__ = ["browser", "photo_library"]
