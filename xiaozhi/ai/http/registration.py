"""Registration of devices that request their configuration."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xiaozhi.ai.http.settings import OtaSettings
from xiaozhi.auth import Roster, client_identity, device_identity, open_user
from xiaozhi.base.errors import AuthError, StoreError
from xiaozhi.base.ownership import (
    Applicant,
    ClaimLimits,
    DeviceClaim,
    Registered,
    UnknownDevice,
    fingerprint,
)
from xiaozhi.interfaces import IDeviceRegistry
from xiaozhi.wire.messages import Device

# Concurrent requests to the registry; more are answered 503, and devices retry.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Visit:
    """A device's description of itself when it requests its configuration.

    :ivar client_id: empty: it sent none.
    :ivar serial: of its chip; empty: it sent none.
    :ivar about: board and firmware, by its own account.
    """

    device_id: str
    client_id: str
    serial: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class PendingRegistration:
    """A device that must be approved first.

    :ivar code: six digits that the device displays and speaks.
    """

    code: str


class Registrar(Protocol):
    """Decides whether a device is admitted, and who owns it."""

    def register(self, visit: Visit) -> Awaitable[Device | PendingRegistration]:
        """Admit a device, or ask for approval.

        :raises AuthError: the device is refused, or the registry is unavailable.
        """

    def is_approved(self, visit: Visit) -> bool:
        """Return whether :meth:`register` would admit the device, from memory."""

    def met(self, device: Device) -> None:
        """Record that a device has opened a session."""


class OpenRegistrar:
    """Admits every device and records none: for tests and sites without a registry."""

    async def register(self, visit: Visit) -> Device:
        """See :class:`Registrar`. The user is ``open:<device id>``."""
        device_id = device_identity(visit.device_id)
        return Device(device_id, client_identity(visit.client_id), open_user(device_id))

    def is_approved(self, visit: Visit) -> bool:
        """See :class:`Registrar`."""
        return True

    def met(self, device: Device) -> None:
        """See :class:`Registrar`."""


class BindingRegistrar:
    """Binds each device id to the first client that requests it.

    ``http.ota.registration`` applies to ids without an owner. Owners are served from memory,
    without the database. Another client that requests an owned id receives a code, which a
    person may approve; the request itself does not affect the owner.
    """

    _log = Logger()

    def __init__(
        self,
        settings: OtaSettings,
        registry: IDeviceRegistry,
        roster: Roster,
        wall: Callable[[], float],
        limits: ClaimLimits | None = None,
        unused_ttl: float = 604_800.0,
    ) -> None:
        """
        :param wall: wall clock: seconds since the epoch.
        :param unused_ttl: seconds after which a device that never opened a session is
            forgotten.
        :raises AuthError: ``http.ota.listed`` contains an invalid device id.
        """
        self._settings = settings
        self._registry = registry
        self._roster = roster
        self._wall = wall
        self._limits = limits or ClaimLimits()
        self._unused_ttl = unused_ttl
        self._listed = frozenset(map(device_identity, settings.listed))
        self._applying = 0
        # Devices to record as seen, and whether they opened a session. Bound: known devices.
        self._seen: dict[str, bool] = {}
        # Devices whose claim was logged. Bound: `limits.claims`, the latest.
        self._logged: OrderedDict[str, None] = OrderedDict()

    def is_approved(self, visit: Visit) -> bool:
        """See :class:`Registrar`."""
        who = _applicant(visit)
        held = self._roster.get(who.device_id)
        return held is not None and held.belongs_to(who)

    async def register(self, visit: Visit) -> Device | PendingRegistration:
        """See :class:`Registrar`.

        :raises AuthError: 400, invalid ids; 403, ``not_registered``; 503, the registry is
            unavailable.
        """
        who = _applicant(visit)
        client_id = client_identity(visit.client_id)
        if not self._roster.loaded:
            raise AuthError("registry_unavailable", "the device registry is not loaded yet", 503)
        held = self._roster.get(who.device_id)
        if held is not None and held.belongs_to(who) and bool(held.serial) == bool(who.serial):
            return self._known(who.device_id, client_id)
        unknown = self._unknown(who.device_id)
        if held is None and not who.client:
            return self._without_client(who.device_id, unknown)
        try:
            found = await self._apply(who, unknown)
        except StoreError as error:
            if error.code == "registry_full":
                self._log.error("device registry: {error}; see devices.max_devices", error=error)
                return Device(who.device_id, client_id, open_user(who.device_id), guest=True)
            raise AuthError(
                "registry_unavailable", "the device registry is unavailable", 503
            ) from None
        if found is None:
            raise self._refused(who.device_id)
        if isinstance(found, DeviceClaim):
            self._log_claim(found)
            return PendingRegistration(found.code)
        if self._roster.get(who.device_id) is None:
            self._log.info(
                "device {device_id} is bound to the first client that requested it, registration"
                " is {registration}",
                device_id=who.device_id,
                registration=self._settings.registration,
            )
        self._roster.put(found)
        return self._known(who.device_id, client_id)

    def met(self, device: Device) -> None:
        """See :class:`Registrar`.

        If the id has no owner, the device becomes its owner: with a token that was made by hand
        or before the registry existed, or as a guest with a client id if registration allows
        it. Otherwise any client could register the id of a device that seldom boots or never
        requests OTA.
        """
        if self._roster.get(device.device_id) is not None:
            self._seen[device.device_id] = True
        elif self._roster.loaded:
            if device.guest and not (
                device.client_id and self._unknown(device.device_id) is UnknownDevice.CLAIM
            ):
                return
            who = Applicant(device.device_id, fingerprint(device.client_id))

            def bound(found: Registered | DeviceClaim | None) -> None:
                if isinstance(found, Registered):
                    self._roster.put(found)
                    self._seen[device.device_id] = True

            claiming = Deferred.fromCoroutine(self._apply(who, UnknownDevice.CLAIM))
            claiming.addCallback(bound)
            claiming.addErrback(lambda failure: failure.trap(StoreError, AuthError))

    async def flush(self, size: int) -> int:
        """Record up to ``size`` devices as seen.

        :return: how many.
        """
        seen = dict(list(self._seen.items())[:size])
        if seen:
            await self._registry.seen(seen, self._now())
            for device_id in seen:
                self._seen.pop(device_id, None)
        return len(seen)

    async def purge(self, size: int) -> int:
        """Delete devices that never opened a session, and expired claims."""
        now = self._now()
        return await self._registry.purge(now - timedelta(seconds=self._unused_ttl), now, size)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    def _known(self, device_id: str, client_id: str) -> Device:
        self._seen.setdefault(device_id, False)
        return Device(device_id, client_id, open_user(device_id))

    def _unknown(self, device_id: str) -> UnknownDevice:
        match self._settings.registration:
            case "open":
                return UnknownDevice.CLAIM
            case "approve":
                return UnknownDevice.ASK
            case "list" if device_id in self._listed:
                return UnknownDevice.CLAIM
        return UnknownDevice.REFUSE

    def _without_client(self, device_id: str, unknown: UnknownDevice) -> Device:
        """Serve a client without an id as a guest: the device id cannot be bound to it."""
        if unknown is UnknownDevice.REFUSE:
            raise self._refused(device_id)
        if unknown is UnknownDevice.ASK:
            raise AuthError("missing_client_id", "the header Client-Id is missing", 400)
        return Device(device_id, "", open_user(device_id), guest=True)

    def _refused(self, device_id: str) -> AuthError:
        self._log.info(
            "device {device_id} is not registered: registration is {registration}",
            device_id=device_id,
            registration=self._settings.registration,
        )
        return AuthError("not_registered", "this server accepts no new devices", 403)

    async def _apply(
        self, who: Applicant, unknown: UnknownDevice
    ) -> Registered | DeviceClaim | None:
        if self._applying >= _AT_ONCE:
            raise AuthError("registry_busy", "too many devices at once; try again", 503)
        self._applying += 1
        try:
            return await self._registry.apply(who, unknown, self._limits, self._now())
        finally:
            self._applying -= 1

    def _log_claim(self, claim: DeviceClaim) -> None:
        if claim.device_id not in self._logged:
            self._log.info(
                "device {device_id} awaits approval: another client owns it, it was revoked, or"
                " registration is by approval; see xiaozhi-token devices list",
                device_id=claim.device_id,
            )
        self._logged[claim.device_id] = None
        self._logged.move_to_end(claim.device_id)
        if len(self._logged) > self._limits.claims:
            self._logged.popitem(last=False)


def _applicant(visit: Visit) -> Applicant:
    device_id = device_identity(visit.device_id)
    client = fingerprint(client_identity(visit.client_id))
    return Applicant(device_id, client, fingerprint(visit.serial[:255]), visit.about)
