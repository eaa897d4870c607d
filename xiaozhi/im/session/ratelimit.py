"""Rate limits of a device: messages, bytes, and the length of each text."""

from __future__ import annotations

import re

from xiaozhi.base.errors import ProtocolError
from xiaozhi.im.settings import LimitSettings
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import JsonDialect, parse_device

# Base64 of a picture or a sound in a tool's result.
_MEDIA = re.compile(r"[A-Za-z0-9+/=_-]{1024,}")


class Allowance:
    """Two token buckets, messages and bytes, and a limit for malformed messages.

    :ivar malformed: total of malformed messages.
    :ivar malformed_in_a_row: consecutive malformed messages; a valid one resets it.
    """

    __slots__ = (
        "_at",
        "_bytes",
        "_messages",
        "_settings",
        "malformed",
        "malformed_in_a_row",
    )

    def __init__(self, settings: LimitSettings, now: float) -> None:
        self._settings = settings
        self._messages = float(settings.message_burst)
        self._bytes = float(settings.byte_burst)
        self._at = now
        self.malformed = 0
        self.malformed_in_a_row = 0

    def is_full(self, now: float) -> bool:
        """Return whether both buckets are full, as in a new allowance."""
        settings, passed = self._settings, now - self._at
        return (
            self._messages + passed * settings.messages_per_second >= settings.message_burst
            and self._bytes + passed * settings.bytes_per_second >= settings.byte_burst
        )

    def forgive(self) -> bool:
        """Count a malformed message.

        :return: False: too many in a row.
        """
        self.malformed += 1
        self.malformed_in_a_row += 1
        return self.malformed_in_a_row <= self._settings.malformed_in_a_row

    def admit(self, now: float, size: int) -> bool:
        """Charge one message of ``size`` bytes.

        :return: False: over the limit; the message is not charged.
        """
        settings = self._settings
        passed = now - self._at
        # A clock set back neither refills nor charges.
        passed = passed if passed > 0.0 else 0.0
        self._at = now
        messages = self._messages + passed * settings.messages_per_second
        if messages > settings.message_burst:
            messages = settings.message_burst
        octets = self._bytes + passed * settings.bytes_per_second
        if octets > settings.byte_burst:
            octets = settings.byte_burst
        if messages < 1.0 or octets < size:
            # A refused message is not charged: the device may retry it later.
            self._messages = messages
            self._bytes = octets
            return False
        self._messages = messages - 1.0
        self._bytes = octets - size
        return True


class Allowances:
    """Keeps the allowances of disconnected devices until their buckets are full again, so
    that reconnecting does not refill them.

    Beyond ``most`` entries, the oldest is dropped, which amounts to full buckets.
    """

    __slots__ = ("_kept", "_most", "_settings")

    def __init__(self, settings: LimitSettings, most: int = 65_536) -> None:
        self._settings = settings
        self._most = most
        self._kept: dict[str, Allowance] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, device_id: str, now: float) -> Allowance:
        """Return the allowance of a device that has connected."""
        found = self._kept.pop(device_id, None)
        if found is None:
            return Allowance(self._settings, now)
        found.malformed = found.malformed_in_a_row = 0
        return found

    def keep(self, device_id: str, allowance: Allowance, now: float) -> None:
        """Keep the allowance of a device that has disconnected."""
        kept = self._kept
        kept.pop(device_id, None)
        kept[device_id] = allowance
        # Each call adds one and may remove two, so full ones do not accumulate.
        for _ in range(2):
            oldest = next(iter(kept), None)
            if oldest is None or not (len(kept) > self._most or kept[oldest].is_full(now)):
                return
            del kept[oldest]


def read(text: str, size: int, limits: LimitSettings) -> tuple[m.DeviceText, JsonDialect]:
    """Parse a text of ``size`` bytes and check its length for its type.

    :raises ProtocolError: as :func:`parse_device`; ``too_long``: the message names the limit.
    """
    message, dialect = parse_device(text, limits.max_json_depth)
    match message:
        case m.Chat(text=typed) | m.Listen(text=typed) | m.Image(text=typed):
            if len(typed.encode()) > limits.max_typed_bytes:
                raise ProtocolError(
                    "too_long",
                    f"the words are longer than {limits.max_typed_bytes} bytes"
                    " (limits.max_typed_bytes)",
                )
        case _:
            pass
    if size > limits.max_text_bytes and not isinstance(message, m.Image):
        # A browser's camera answers a tool call with its picture.
        if isinstance(message, m.Mcp):
            size -= sum(len(found) for found in _MEDIA.findall(text))
        if size > limits.max_text_bytes:
            raise ProtocolError(
                "too_long",
                f"a text other than a picture is longer than {limits.max_text_bytes} bytes"
                " (limits.max_text_bytes)",
            )
    return message, dialect
