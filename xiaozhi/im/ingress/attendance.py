"""Devices that are connected without a session, such as idle MQTT devices."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.base.closing import CloseReason
from xiaozhi.im.ingress.reachability import Reachability
from xiaozhi.interfaces import IPresentDevice
from xiaozhi.wire.messages import Device


class Attendance:
    """A device that is reachable while its connection lasts.

    During a session of the device, messages go through the session instead.
    """

    def __init__(self, owner: Attendances, device: Device, present: IPresentDevice) -> None:
        self.device = device
        self.id = owner.new_id()
        self._owner = owner
        self._present = present

    def leave(self) -> None:
        """Remove the device: its connection is gone. Idempotent."""
        self._owner.left(self)

    def begin(self) -> None:
        """Claim the device; called by the table."""
        self._owner.reachability.claim(
            self.device.device_id, self.id, self._present.deliver, self._replaced
        )

    def end(self) -> None:
        """Release the claim; called by the table."""
        self._owner.reachability.release(self.device.device_id, self.id)

    def dismiss(self, reason: CloseReason, detail: str) -> None:
        """Remove the device and close its connection."""
        self._owner.left(self)
        self._present.dismiss(reason, detail)

    def _replaced(self) -> None:
        self._owner.replaced(self)


class Attendances:
    """The table of present devices, by device id; the newest connection wins."""

    def __init__(
        self,
        reachability: Reachability,
        new_id: Callable[[], str],
        in_session: Callable[[str], bool],
    ) -> None:
        """:param in_session: whether a device id has a session in this process."""
        self.reachability = reachability
        self.new_id = new_id
        self._in_session = in_session
        # Bound: one per connection.
        self._by_device: dict[str, Attendance] = {}

    def __len__(self) -> int:
        return len(self._by_device)

    def add(self, device: Device, present: IPresentDevice) -> Attendance:
        """Add a connected device; :meth:`Attendance.leave` must follow.

        A guest is not claimed: messages to its device id are not for it.
        """
        former = self._by_device.get(device.device_id)
        if former is not None:
            former.dismiss(CloseReason.REPLACED, "replaced")
        attendance = Attendance(self, device, present)
        if not device.guest:
            self._by_device[device.device_id] = attendance
            if not self._in_session(device.device_id):
                attendance.begin()
        return attendance

    def session_over(self, device_id: str) -> None:
        """Claim the device again if it is still connected: its session is over."""
        attendance = self._by_device.get(device_id)
        if attendance is not None:
            attendance.begin()

    def dismiss(self, device_id: str, reason: CloseReason, detail: str) -> None:
        """Close the connection of a device in the table."""
        attendance = self._by_device.get(device_id)
        if attendance is not None:
            attendance.dismiss(reason, detail)

    def drain(self) -> None:
        """Close all connections: the process stops."""
        for attendance in list(self._by_device.values()):
            attendance.dismiss(CloseReason.STOPPING, "going_away")

    # --- for Attendance

    def left(self, attendance: Attendance) -> None:
        """Remove an attendance."""
        device_id = attendance.device.device_id
        if self._by_device.get(device_id) is attendance:
            del self._by_device[device_id]
            if not self._in_session(device_id):
                attendance.end()

    def replaced(self, attendance: Attendance) -> None:
        """Handle another claim of the device: by its own session here, or another process."""
        if not self._in_session(attendance.device.device_id):
            attendance.dismiss(CloseReason.REPLACED, "replaced")
