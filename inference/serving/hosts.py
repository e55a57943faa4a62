"""The names by which a server may be called, since a page of the web can have its own lead to a visitor's machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def hosts_of(address: str, host: str, allowed: Sequence[str]) -> frozenset[str] | None:
    """The names by which requests may call a server that listens on an address, known as `host`; None for any.

    Raises ValueError for an allowed name that no request has, such as one with a port.
    """
    if not allowed and not ipaddress.ip_address(address).is_loopback:
        return None
    names = [name.lower() for name in allowed]
    if wrong := [name for name in names if host_of(f"[{name}]" if ":" in name else name) != name]:
        raise ValueError(f"--allow-host {wrong[0]!r}: expected a name or an address, without a port or http://")
    return LOOPBACK_NAMES | {host.lower(), address, *names}


def host_of(header: str) -> str | None:
    """The host of a Host header without its port, in lower case; None where it has none."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:  # brackets that do not close
        return None
