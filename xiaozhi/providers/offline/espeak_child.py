"""espeak-ng in a process of its own: it is GPL-3, and unusual text can crash it.

A request is JSON ``{"runs": [[voice, text], …], "rate", "pitch", "volume"}``; the answer is s16le
mono at the rate that the engine reports, normally 22050 Hz.
"""

from __future__ import annotations

import ctypes
import json

import espeakng_loader

from xiaozhi.providers.kit.process.worker_child import (
    DATA,
    DONE,
    Channel,
    Service,
    WorkRefused,
    main,
)

#: espeak_AUDIO_OUTPUT: samples are passed to a callback on the calling thread.
_SYNCHRONOUS = 2
_UTF8 = 1
_RATE, _VOLUME, _PITCH = 1, 2, 3
#: Milliseconds of sound for each callback.
_BUFFER = 60
#: The engine's rate, which the parent announces.
SAMPLE_RATE = 22050

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak(Service):
    """Processes one request at a time; a cancelled one ends within one callback."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER, data, 0)
        if rate != SAMPLE_RATE:
            raise SystemExit(f"espeak-ng did not start: {rate}")
        self._request_id = 0
        self._stopped = False
        # Keep a reference: the library calls it as long as the process lives.
        self._callback = _Callback(self._heard)
        self._library.espeak_SetSynthCallback(self._callback)

    def opened(self, request_id: int, payload: bytes) -> None:
        """Process a request, all of which is in its first frame."""
        if self.channel.cancelled(request_id):
            return
        request = json.loads(payload)
        self._request_id = request_id
        self._stopped = False
        library = self._library
        for voice, text in request["runs"]:
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise WorkRefused("no_voice", f"espeak-ng has no voice {voice}")
            for parameter, name in ((_RATE, "rate"), (_VOLUME, "volume"), (_PITCH, "pitch")):
                library.espeak_SetParameter(parameter, request[name], 0)
            data = text.encode() + b"\0"
            if library.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None) != 0:
                raise WorkRefused("failed", "espeak-ng could not speak the text")
            if self._stopped:
                return
        self.channel.send(request_id, DONE)

    def _heard(self, samples: object, count: int, events: int) -> int:
        """Send samples. :return: 1 to stop."""
        if self._stopped or self.channel.cancelled(self._request_id):
            self._stopped = True
            return 1
        if samples and count > 0:
            data = ctypes.string_at(samples, count * 2)  # type: ignore[arg-type]
            self.channel.send(self._request_id, DATA, data)
        return 0


if __name__ == "__main__":
    main(Espeak)
