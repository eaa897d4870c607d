"""Registration of devices that ask for their configuration."""

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

# Applicants that wait for the registry; more get 503 and retry.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Visit:
    """A device's description of itself when it asks for its configuration.

    :ivar client_id: empty: it has none.
    :ivar serial: of its chip; empty: it has none, or does not tell.
    :ivar about: board and firmware, as it calls itself.
    """

    device_id: str
    client_id: str
    serial: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class PendingRegistration:
    """A device that has to be approved first.

    :ivar code: six digits that the device shows and speaks.
    """

    code: str


class Registrar(Protocol):
    """Decides whether a device belongs here, and to whom."""

    def register(self, visit: Visit) -> Awaitable[Device | PendingRegistration]:
        """:raises AuthError: it does not, or that cannot be told now."""

    def is_approved(self, visit: Visit) -> bool:
        """Whether :meth:`register` would let this device in, without asking anybody."""

    def met(self, device: Device) -> None:
        """A session of a device was opened."""


class OpenRegistrar:
    """Lets every device in and remembers none: for tests and sites without a registry."""

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
    """Binds each device id to the first client that asks for it.

    ``http.ota.registration`` applies to ids without an owner. Owners are known from memory
    and wait for no database; any other client that asks for an owned id gets a code, which a
    person may approve. Such a request changes nothing for the owner.
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
        :param wall: seconds since the epoch.
        :param unused_ttl: seconds after which a device that never opened a session is
            forgotten.
        :raises AuthError: ``http.ota.listed`` has what is no device id.
        """
        self._settings = settings
        self._registry = registry
        self._roster = roster
        self._wall = wall
        self._limits = limits or ClaimLimits()
        self._unused_ttl = unused_ttl
        self._listed = frozenset(map(device_identity, settings.listed))
        self._applying = 0
        # Devices to be noted as seen, and whether with a session; known ones alone.
        self._seen: dict[str, bool] = {}
        # Those whose claim has been logged; the oldest is forgotten, and logged again.
        self._told: OrderedDict[str, None] = OrderedDict()

    def is_approved(self, visit: Visit) -> bool:
        """See :class:`Registrar`."""
        who = _applicant(visit)
        held = self._roster.get(who.device_id)
        return held is not None and held.belongs_to(who)

    async def register(self, visit: Visit) -> Device | PendingRegistration:
        """See :class:`Registrar`.

        :raises AuthError: 400, ids that cannot be used; 403, ``not_registered``; 503, the
            registry cannot be asked.
        """
        who = _applicant(visit)
        client_id = client_identity(visit.client_id)
        if not self._roster.loaded:
            raise AuthError("registry_unavailable", "the device registry is not read yet", 503)
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
            raise AuthError("registry_unavailable", "the device registry is away", 503) from None
        if found is None:
            raise self._refused(who.device_id)
        if isinstance(found, DeviceClaim):
            self._tell(found)
            return PendingRegistration(found.code)
        if self._roster.get(who.device_id) is None:
            self._log.info(
                "device {device_id} is bound to the client that asked first, registration is"
                " {registration}",
                device_id=who.device_id,
                registration=self._settings.registration,
            )
        self._roster.put(found)
        return self._known(who.device_id, client_id)

    def met(self, device: Device) -> None:
        """See :class:`Registrar`.

        A device whose id has no owner becomes its owner: by a token, made by hand or before
        the registry existed; or as a guest that sends a client id, if registration allows
        it. Otherwise any client could register the id of a device that seldom boots, or
        never asks OTA.
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
        """Write down which devices were seen. :return: how many."""
        seen = dict(list(self._seen.items())[:size])
        if seen:
            await self._registry.seen(seen, self._now())
            for device_id in seen:
                self._seen.pop(device_id, None)
        return len(seen)

    async def purge(self, size: int) -> int:
        """Forget devices that never opened a session, and claims that are over."""
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
        """Serve a client without an id: the device id cannot be bound to it."""
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
        return AuthError("not_registered", "this server takes in no new devices", 403)

    async def _apply(
        self, who: Applicant, unknown: UnknownDevice
    ) -> Registered | DeviceClaim | None:
        if self._applying >= _AT_ONCE:
            raise AuthError("registry_busy", "too many devices ask at once; try again", 503)
        self._applying += 1
        try:
            return await self._registry.apply(who, unknown, self._limits, self._now())
        finally:
            self._applying -= 1

    def _tell(self, claim: DeviceClaim) -> None:
        if claim.device_id not in self._told:
            self._log.info(
                "device {device_id} asks to be approved: another client holds it, it was"
                " revoked, or registration is by approval; see xiaozhi-token devices list",
                device_id=claim.device_id,
            )
        self._told[claim.device_id] = None
        self._told.move_to_end(claim.device_id)
        if len(self._told) > self._limits.claims:
            self._told.popitem(last=False)


def _applicant(visit: Visit) -> Applicant:
    device_id = device_identity(visit.device_id)
    client = fingerprint(client_identity(visit.client_id))
    return Applicant(device_id, client, fingerprint(visit.serial[:255]), visit.about)
