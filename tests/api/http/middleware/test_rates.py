"""Rate limits."""

import time

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.middleware.rates import Rate, address_of
from api.http.settings import ServiceSettings
from retrieval.errors import UsageError

READER = "reader-secret-0123456789"
WRITER = "writer-secret-0123456789"
KEYS = f"eve:read:{READER} bob:write:{WRITER}"


def test_floods_from_one_client_are_limited_without_harm_to_others(coloured_library):
    settings = ServiceSettings(rate_limit="5/minute", api_keys=KEYS)
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        reader = {"Authorization": f"Bearer {READER}"}
        statuses = [client.get("/v1/items/1", headers=reader).status_code for _ in range(8)]
        assert statuses == [200] * 5 + [429] * 3
        answer = client.get("/v1/items/1", headers=reader)
        assert 1 <= int(answer.headers["retry-after"]) <= 12
        other = client.get("/v1/items/1", headers={"Authorization": f"Bearer {WRITER}"})
        assert other.status_code == 403


def test_after_a_flood_a_client_may_ask_again_at_the_rate():
    rate = Rate("20/second")
    began = time.monotonic()

    def most() -> float:
        return 20 + 20 * (time.monotonic() - began)

    at_once = [rate.allows("eve") for _ in range(40)].count(True)
    assert 20 <= at_once <= most()
    time.sleep(0.12)
    later = [rate.allows("eve") for _ in range(40)].count(True)
    assert later >= 2
    assert at_once + later <= most()
    assert rate.allows("bob")


def test_a_flood_from_many_addresses_does_not_fill_the_memory():
    rate = Rate("1/hour")
    for number in range(50_000):
        rate.allows(f"address {number}")
    assert len(rate._full_at) <= 20_000


@pytest.mark.parametrize(
    ("rate", "amount", "window_s"),
    [
        ("100/second", 100, 1),
        ("5 per 2 hours", 5, 7200),
        ("10/ 3minutes", 10, 180),
        ("1 PER Day", 1, 86_400),
        ("7per5month", 7, 5 * 30 * 86_400),
        (" 3 / years ", 3, 360 * 86_400),
    ],
)
def test_a_rate_is_an_amount_in_a_time(rate, amount, window_s):
    read = Rate(rate)
    assert (read._window_s / read._interval_s, read._window_s) == (amount, window_s)


@pytest.mark.parametrize(
    "rate", ["many", "0/second", "-1/minute", "5/fortnight", "5/1 2second", "1/secondly", ""]
)
def test_a_wrong_rate_is_an_error(coloured_library, rate):
    with pytest.raises(UsageError, match="Invalid rate"):
        create_app(coloured_library.path, ServiceSettings(rate_limit=rate))


def test_addresses_of_one_ipv6_network_are_one_client():
    def who(host: str) -> str:
        return address_of({"client": (host, 1)})

    assert who("2001:db8::1") == who("2001:db8::2:3") != who("2001:db8:0:1::1")
    assert who("192.0.2.1") != who("192.0.2.2")


def test_forged_forwarding_headers_do_not_change_who_asks(coloured_library):
    settings = ServiceSettings(rate_limit="3/minute")
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        statuses = [
            client.get("/v1/items/1", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code
            for n in range(5)
        ]
    assert statuses == [200] * 3 + [429] * 2
