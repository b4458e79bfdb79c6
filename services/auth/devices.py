"""Devices: from which browser or app a password comes, as far as its front end says so.

A device's token holds a random id and two days, and a keyed hash over them: nothing about anybody, and nobody else can
make one. The front end keeps it for 400 days and shows it in the header `Homeroom-Device`; with each sign-in it is
given a new one of the same id.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from services.auth.passwords import Peppers
from shared.policy import Policy
from shared.web import Call

HEADER = "Homeroom-Device"
PREFIX = "hrd_"
KEPT = timedelta(days=400)
ID_BYTES, MAC_BYTES = 16, 16
_FORM = struct.Struct(f">{ID_BYTES}sII")  # id, first and last issued in seconds since 1970

# The first that is found in a User-Agent; what is none of these is not shown.
_KINDS = (
    ("Chromebook", r"\bCrOS\b"), ("iPad", r"\biPad\b"), ("iPhone", r"\biPhone\b"), ("Android", r"\bAndroid\b"),
    ("Windows", r"\bWindows\b"), ("Mac", r"\bMac(intosh| OS X)\b"), ("Linux", r"\bLinux\b"),
)  # fmt: skip


class Device(Struct, frozen=True):
    """A device that has shown its token. `since`: when it was first given one."""

    id: bytes
    since: datetime


class Origin(Struct, frozen=True):
    """Where a sign-in comes from. `network` and `budget` are keyed hashes; `budget` is what a wrong password counts
    against where the account does not know the device, and `stranger` says that it is the network's."""

    device: Device | None
    kind: str | None
    network: bytes
    budget: bytes
    stranger: bool

    @property
    def device_id(self) -> bytes:
        return self.device.id if self.device else b""

    @property
    def shown_device(self) -> str | None:
        """A hash by which the help desk tells devices apart."""
        return hashlib.sha256(self.device.id).hexdigest()[:12] if self.device else None


async def origin(call: Call[Any], peppers: Peppers) -> Origin:
    """Raises Rejected client_token_invalid: the front end shows a token that is not good."""
    policy = call.policy
    network = peppers.keyed("network", policy.district, network_of(await call.remote()))
    device = read(peppers, policy, call.request.headers.get(HEADER, ""), call.now)
    stranger = device is None or call.now - device.since < policy.sign_in.network_pause
    budget = (
        network if device is None or stranger else peppers.keyed("device", policy.district, device.id.hex())
    )
    kind = kind_of(call.request.headers.get("User-Agent", ""))
    call.noted["origin"] = found = Origin(device, kind, network, budget, stranger)
    return found


def new(now: datetime) -> Device:
    return Device(secrets.token_bytes(ID_BYTES), now)


def issue(peppers: Peppers, policy: Policy, device: Device | None, now: datetime) -> str:
    """A token of this device, or of a new one."""
    device = device or new(now)
    said = _FORM.pack(device.id, int(device.since.timestamp()), int(now.timestamp()))
    return PREFIX + base64.urlsafe_b64encode(said + _mac(peppers, policy, said)).decode().rstrip("=")


def read(peppers: Peppers, policy: Policy, token: str, now: datetime) -> Device | None:
    """The device of a token; None for any other text, or one that was kept for too long."""
    if not token.startswith(PREFIX) or len(token) > 100:
        return None
    try:
        encoded = token.removeprefix(PREFIX)
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    said, mac = raw[: _FORM.size], raw[_FORM.size :]
    if len(said) < _FORM.size or not hmac.compare_digest(mac, _mac(peppers, policy, said)):
        return None
    device_id, since, last = _FORM.unpack(said)
    if now - datetime.fromtimestamp(last, UTC) >= KEPT:
        return None
    return Device(device_id, datetime.fromtimestamp(since, UTC))


def _mac(peppers: Peppers, policy: Policy, said: bytes) -> bytes:
    return peppers.keyed("device-token", policy.district, said.hex())[:MAC_BYTES]


def network_of(address: str) -> str:
    """An IPv4 address (a school's is one), or the /64 of an IPv6 address; other names of a front end's as they are."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:128]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def kind_of(user_agent: str) -> str | None:
    """What kind of device says this of itself."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, user_agent[:500])), None)
