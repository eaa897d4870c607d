"""Device registry of the AI service: its parts, started and stopped together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from xiaozhi.ai.http.registration import BindingRegistrar
from xiaozhi.ai.schema import AiSettings
from xiaozhi.auth import Roster
from xiaozhi.base.errors import AuthError, ConfigError, StoreError
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.runtime.periodic import PeriodicJob
from xiaozhi.storage import devices_from_url

# Maximum number of devices recorded as seen during stop.
_LAST_SEEN = 10_000


@dataclass(frozen=True)
class DeviceOwners:
    """Owners of device ids, and the periodic jobs of the registry."""

    roster: Roster
    registrar: BindingRegistrar
    jobs: tuple[PeriodicJob, ...]

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self.roster.start()
        for each in self.jobs:
            each.start()

    async def _stop(self) -> None:
        for each in self.jobs:
            each.stop()
        with suppress(StoreError):
            await self.registrar.flush(_LAST_SEEN)
        await self.roster.stop()


def device_owners(settings: AiSettings, state: Path, reactor: Any) -> DeviceOwners:
    """Assemble the registry without starting it.

    :raises ConfigError: ``http.ota.listed`` is invalid.
    """
    own = settings.devices
    registry = devices_from_url(own.address(state), reactor, pool_size=own.pool_size)
    roster = Roster(registry, reactor, own.poll_interval)
    try:
        registrar = BindingRegistrar(
            settings.http.ota, registry, roster, wall_time(reactor), own.limits, own.unused_ttl
        )
    except AuthError as error:
        raise ConfigError(f"http.ota.listed: {error.message}") from None
    noting = PeriodicJob("noting which devices were seen", registrar.flush, reactor, interval=30.0)
    purging = PeriodicJob("purging devices", registrar.purge, reactor, interval=600.0, first=60.0)
    return DeviceOwners(roster, registrar, (noting, purging))
