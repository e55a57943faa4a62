"""Names by which a server may be called: those of this machine, unless it listens on others or is told more."""

from __future__ import annotations

import pytest

from inference.serve import listening, parse_arguments
from inference.serving.hosts import LOOPBACK_NAMES, hosts_of


@pytest.mark.parametrize(
    ("address", "host", "allowed", "more"),
    [
        ("127.0.0.1", "127.0.0.1", [], set()),
        ("::1", "::1", [], set()),
        ("127.0.1.1", "mine", [], {"127.0.1.1", "mine"}),
        ("127.0.0.1", "localhost", ["Example.org", "fd00::1"], {"example.org", "fd00::1"}),
        ("0.0.0.0", "0.0.0.0", ["b"], {"0.0.0.0", "b"}),
        ("0.0.0.0", "0.0.0.0", [], None),
        ("192.168.0.7", "mine", [], None),
    ],
)
def test_names_are_those_of_this_machine_and_what_is_allowed(
    address: str, host: str, allowed: list[str], more: set[str] | None
) -> None:
    assert hosts_of(address, host, allowed) == (None if more is None else LOOPBACK_NAMES | more)


@pytest.mark.parametrize("name", ["example.org:8080", "http://example.org", "[fd00::1]", "", "a/b"])
def test_names_that_no_request_has_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="--allow-host .*: expected a name or an address, without a port"):
        hosts_of("127.0.0.1", "127.0.0.1", [name])


def test_an_address_in_short_is_one_of_this_machine() -> None:
    with listening(parse_arguments(["--host", "127.1"]).host, 0) as listener:
        assert hosts_of(listener.getsockname()[0], "127.1", []) == LOOPBACK_NAMES | {"127.1"}
