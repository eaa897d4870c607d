"""The device registry for programs without a reactor: one call, one connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from xiaozhi.base.errors import StoreError
from xiaozhi.base.ownership import DeviceClaim, Registered
from xiaozhi.storage import devices
from xiaozhi.storage.dialects import SqlDialect, Sqlite
from xiaozhi.storage.upgrade import upgrade

T = TypeVar("T")


class DirectRegistry:
    """Reads and changes the registry beside running services, which notice a change within
    their ``devices.poll_interval``.

    All methods block. They raise StoreError: ``store_unavailable``, and the errors of
    :class:`~xiaozhi.interfaces.IDeviceRegistry`.
    """

    def __init__(self, dialect: SqlDialect) -> None:
        self._dialect = dialect

    def devices(self, limit: int) -> list[Registered]:
        """Return the devices seen last, newest first."""
        return self._once(lambda cursor: devices.devices(cursor, self._dialect, limit))

    def claims(self, at: datetime, limit: int) -> list[DeviceClaim]:
        """Return the claims that have not expired, newest first."""
        return self._once(lambda cursor: devices.claims(cursor, self._dialect, at, limit))

    def approve(self, code: str, at: datetime) -> Registered:
        """Approve the claim with this code."""
        return self._once(lambda cursor: devices.approve(cursor, self._dialect, code, at))

    def revoke(self, device_id: str, at: datetime) -> Registered:
        """Revoke a device id from its holder."""
        return self._once(lambda cursor: devices.revoke(cursor, self._dialect, device_id, at))

    def _once(self, work: Callable[[Any], T]) -> T:
        dialect = self._dialect
        if isinstance(dialect, Sqlite) and not Path(dialect.path).exists():
            raise StoreError(
                "store_unavailable",
                f"there is no device registry at {dialect.address}: the service makes it at its"
                " first start; give its --config, where the service is started",
            )
        connection: Any = None
        try:
            connection = import_module(dialect.driver).connect(**dialect.connect_arguments())
            dialect.opened(connection)
            cursor = connection.cursor()
            upgrade(cursor, dialect)
            result = work(cursor)
            connection.commit()
            return result
        except dialect.failures as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StoreError(
                "store_unavailable", f"the device registry at {dialect.address}: {reason}"
            ) from error
        finally:
            if connection is not None:
                connection.close()
