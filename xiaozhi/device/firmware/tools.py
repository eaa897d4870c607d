"""Tools of the software device: those of every board with a screen and a camera (§5.4)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from xiaozhi.device.firmware.mcp import Parameter, SimulatedTool, Value


@dataclass
class Panel:
    """The state that the tools change and report.

    :ivar volume: percent, like ``brightness``.
    """

    volume: int = 70
    brightness: int = 75
    theme: str = "light"


TakePhoto = Callable[[str], Awaitable[str]]


def device_tools(panel: Panel, take_photo: TakePhoto, system_info: str) -> list[SimulatedTool]:
    """Make the device's tools.

    :param take_photo: takes the question and returns the vision service's answer.
    :param system_info: body of the OTA request, for ``self.get_system_info``.
    """

    async def get_device_status(_: dict[str, Value]) -> str:
        status = {
            "audio_speaker": {"volume": panel.volume},
            "screen": {"brightness": panel.brightness, "theme": panel.theme},
            "battery": {"level": 80, "charging": False},
            "network": {"type": "wifi", "ssid": "software", "signal": "strong"},
            "chip": {"temperature": 41},
        }
        return json.dumps(status)

    async def set_volume(arguments: dict[str, Value]) -> bool:
        panel.volume = int(arguments["volume"])
        return True

    async def set_brightness(arguments: dict[str, Value]) -> bool:
        panel.brightness = int(arguments["brightness"])
        return True

    async def set_theme(arguments: dict[str, Value]) -> bool:
        if arguments["theme"] not in ("light", "dark"):
            return False
        panel.theme = str(arguments["theme"])
        return True

    async def photo(arguments: dict[str, Value]) -> str:
        return await take_photo(str(arguments["question"]))

    async def get_system_info(_: dict[str, Value]) -> str:
        return system_info

    return [
        SimulatedTool(
            "self.get_device_status",
            "Tells the present state of the device: volume, screen, battery, network."
            " Use it before changing one of them and when asked about them.",
            get_device_status,
        ),
        SimulatedTool(
            "self.audio_speaker.set_volume",
            "Sets the volume of the loudspeaker in percent."
            " If the present volume is not known, ask `self.get_device_status` first.",
            set_volume,
            (Parameter("volume", "integer", 0, 100),),
        ),
        SimulatedTool(
            "self.screen.set_brightness",
            "Sets the brightness of the screen in percent.",
            set_brightness,
            (Parameter("brightness", "integer", 0, 100),),
        ),
        SimulatedTool(
            "self.screen.set_theme",
            "Sets the theme of the screen: `light` or `dark`.",
            set_theme,
            (Parameter("theme", "string"),),
        ),
        SimulatedTool(
            "self.camera.take_photo",
            "Takes a photo and answers a question about it. Use it when asked what can be seen.",
            photo,
            (Parameter("question", "string"),),
        ),
        SimulatedTool(
            "self.get_system_info",
            "Tells what the device is made of.",
            get_system_info,
            user_only=True,
        ),
    ]
