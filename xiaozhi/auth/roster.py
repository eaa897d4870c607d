"""A process's copy of the device registry in memory: the owner of each device id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from xiaozhi.base.errors import AuthError, StoreError
from xiaozhi.base.ownership import DeviceState, Registered, fingerprint
from xiaozhi.interfaces import IDeviceRegistry

_PORTION = 1000

# Seconds between two full reads, which also drop purged devices.
_ANEW = 3600.0

Changed = Callable[[Registered], None]


class Roster:
    """Follows the registry: reads its changes every ``interval`` seconds.

    Admission uses this copy, so it never waits for the database and continues without it on
    the last known state. Bounded by ``devices.max_devices``.

    :ivar loaded: whether the whole registry was read once.
    """

    _log = Logger()

    def __init__(self, registry: IDeviceRegistry, clock: IReactorTime, interval: float) -> None:
        """:param interval: seconds."""
        self.loaded = False
        self._registry = registry
        self._clock: Any = clock
        self._interval = interval
        self._known: dict[str, Registered] = {}
        self._read = 0
        self._anew = 0.0
        self._listeners: list[Changed] = []
        self._trouble = ""
        self._is_open = False
        self._running: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def get(self, device_id: str) -> Registered | None:
        """Return the owner of a device id, as far as this process knows.

        :param device_id: normalised, see :func:`device_identity`.
        """
        return self._known.get(device_id)

    def put(self, registered: Registered) -> None:
        """Store a change that this process made; an older revision is ignored."""
        known = self._known.get(registered.device_id)
        if known is not None and known.revision >= registered.revision:
            return
        self._known[registered.device_id] = registered
        for each in self._listeners:
            each(registered)

    def when_changed(self, call: Changed) -> None:
        """Register a callback for every device bound or revoked."""
        self._listeners.append(call)

    def trouble(self) -> str:
        """Describe the current fault in a few words; empty without one."""
        return self._trouble

    def check(self, device_id: str, claims: Mapping[str, Any]) -> None:
        """Check the owner of a token whose signature and times are valid.

        A token from OTA names its device's revision and is void once that changed. A token
        issued by hand names none and is valid until its device is revoked.

        :raises AuthError: 403 ``revoked``, ``token_revoked`` or ``wrong_client``.
        """
        entry = self._known.get(device_id)
        if entry is None:
            return
        revision = claims.get("revision")
        if not isinstance(revision, int) or isinstance(revision, bool):
            revision = None
        newer = revision is not None and revision > entry.revision
        if entry.state is DeviceState.REVOKED:
            if newer and _number(claims.get("iat")) > entry.revoked_at:
                return  # approved since, and not in this copy yet
            raise AuthError("revoked", "this device was revoked; it must be approved again", 403)
        if newer:
            return  # this copy is older than the token
        if revision is not None:
            if revision < entry.revision:
                raise AuthError("token_revoked", "the device was reassigned or revoked since", 403)
            return
        if _number(claims.get("iat")) <= entry.revoked_at:
            raise AuthError("token_revoked", "the token is older than the revocation", 403)
        client = claims.get("client_id")
        named = isinstance(client, str) and bool(client)
        foreign = named and fingerprint(str(client)) != entry.client
        if claims.get("guest") or (foreign and not claims.get("by_hand")):
            raise AuthError("wrong_client", "the device belongs to another client", 403)

    def knows(self, device_id: str, client_id: str) -> bool:
        """Check a device that sends its id without a token.

        :return: whether its client holds the device id; False: the id is unowned.
        :raises AuthError: 403; another client holds it, or the device was revoked.
        """
        entry = self._known.get(device_id)
        if entry is None:
            return False
        if entry.state is DeviceState.REVOKED:
            raise AuthError("revoked", "this device was revoked; it must be approved again", 403)
        if not client_id or fingerprint(client_id) != entry.client:
            raise AuthError("wrong_client", "the device belongs to another client", 403)
        return True

    # --- life ----------------------------------------------------------------------

    async def start(self) -> None:
        """Open the registry and read it. An unreachable one is read as soon as possible.

        :raises StoreError: it is reachable but unusable.
        """
        try:
            await self._follow()
        except StoreError as error:
            if error.code != "store_unavailable":
                raise
            self._failed(error)
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    async def stop(self) -> None:
        """Close the registry."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        await self._registry.stop()

    async def _run(self) -> None:
        while True:
            await deferLater(self._clock, self._interval, lambda: None)
            try:
                await self._follow()
            except CancelledError:
                raise
            except Exception as error:
                self._failed(error)
            else:
                if self._trouble:
                    self._log.info("device registry: reachable again")
                self._trouble = ""

    async def _follow(self) -> None:
        if not self._is_open:
            await self._registry.start()
            self._is_open = True
        now = self._clock.seconds()
        whole = now >= self._anew
        after = 0 if whole else self._read
        there: set[str] = set()
        known = set(self._known) if whole else there
        while True:
            found = await self._registry.changes(after, _PORTION)
            for each in found:
                self.put(each)
                there.add(each.device_id)
                after = each.revision
            if len(found) < _PORTION:
                break
        # Keep entries that were put meanwhile.
        for gone in known - there:
            del self._known[gone]
        self._read = after
        if whole:
            self._anew = now + _ANEW
        self.loaded = True

    def _failed(self, error: Exception) -> None:
        if not self._trouble:
            self._log.warn(
                "device registry: cannot be read, using the last known state: {error}",
                error=str(error),
            )
        self._trouble = error.message if isinstance(error, StoreError) else type(error).__name__


def _number(value: object) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
