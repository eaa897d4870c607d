"""A tool with a key, over HTTP, in one file: found, configured, called, spoken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase, TestCase

from xiaozhi import plugins
from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import IToolSourceMaker
from xiaozhi.interfaces.toolsource import ToolSession
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.runtime.config import read_section
from xiaozhi.storage import tool_values_from_url
from xiaozhi.test import laws
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor
from xiaozhi.tools.runtime import ToolFacilities
from xiaozhi.tools.sources import ToolSources, choose_sources
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire.messages import Device

# The sample of docs/tools.md.
PLUGIN = '''"""The weather, by a vendor that wants a key."""

from typing import Any

from msgspec import Struct

from xiaozhi.base.errors import ToolError
from xiaozhi.base.toolresult import ToolResult, said
from xiaozhi.tools.functions import FunctionModule, ToolContext


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    api_key: str
    url: str = "http://weather.example:8000/now"


acme = FunctionModule("acme_weather", "The weather by Acme.", Settings)


@acme.function
async def get_weather(context: ToolContext[Settings], city: str) -> dict[str, Any]:
    """Get the weather of a city."""
    reply = await context.runtime.http.request(
        "GET",
        context.settings.url,
        query={"q": city},
        headers={"Authorization": f"Bearer {context.settings.api_key}"},
    )
    weather = reply.checked().json()
    await context.runtime.values.put(context.owner, "city", city)
    return {"degrees": weather["degrees"]}


@acme.function
async def last_city(context: ToolContext[Settings]) -> ToolResult:
    """Say which city was asked for last."""
    city = await context.runtime.values.get(context.owner, "city")
    if city is None:
        raise ToolError("no_city", "no city has been asked for")
    return said(f"It was {city}.")
'''


def install(case: SynchronousTestCase) -> None:
    """Put the file where plugins are found, until the test is over."""
    directory = Path(case.mktemp()) / "xiaozhi" / "plugins"
    directory.mkdir(parents=True)
    (directory / "acme_weather.py").write_text(PLUGIN)
    plugins.__path__.append(str(directory))

    def forget() -> None:
        plugins.__path__.remove(str(directory))
        sys.modules.pop("xiaozhi.plugins.acme_weather", None)

    case.addCleanup(forget)


def configured(clock: Any, **sections: object) -> ToolSources:
    """Start the sources of a configuration."""
    store = tool_values_from_url("memory:", clock)
    facilities = ToolFacilities.of(clock, wall_time(clock), store)
    sources = choose_sources(sections, facilities, read_section)
    sources.start()
    return sources


class DocumentTests(SynchronousTestCase):
    def test_it_is_the_documented_one(self) -> None:
        text = (Path(laws.__file__).parents[2] / "docs" / "tools.md").read_text("utf-8")
        self.assertIn(f"```python\n{PLUGIN}```", text)


class PluginTests(ConversationCase):
    def setUp(self) -> None:
        install(self)
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)

    def sources(self, **sections: object) -> ToolSources:
        return configured(self.network, **sections)

    def test_it_is_found(self) -> None:
        names = {maker.name for maker in getPlugins(IToolSourceMaker, plugins)}
        self.assertLessEqual({"time", "acme_weather"}, names)

    def test_off_until_it_is_named(self) -> None:
        self.assertNotIn("acme_weather", [each.name for each in self.sources().all])

    def test_a_missing_key_is_named(self) -> None:
        error = self.assertRaises(ConfigError, self.sources, acme_weather={})
        self.assertIn("tools.acme_weather.api_key", error.message)

    def test_a_talk(self) -> None:
        self.vendor.play(whole({"degrees": 21}))
        sources = self.sources(acme_weather={"api_key": "k-123"})
        calls = (
            {"name": "get_weather", "when": "weather", "arguments": {"city": "Köln"}},
            {"name": "last_city", "when": "which"},
        )
        house = self.house(clock=self.network, tools=sources, llm={"calls": calls})
        visitor = house.connect()
        answer = house.until(visitor.device.text("what is the weather"))
        self.assertEqual(answer.text, '{"degrees": 21}')
        (request,) = self.vendor.requests
        self.assertEqual(request.path, "/now?q=K%C3%B6ln")
        self.assertEqual(request.headers["authorization"], "Bearer k-123")
        answer = house.until(visitor.device.text("which one"))
        self.assertEqual(answer.text, "It was Köln.")
        # Stored by device.
        other = house.connect(2)
        answer = house.until(other.device.text("which one"))
        self.assertEqual(answer.text, "Error: no city has been asked for")

    def test_a_vendor_that_refuses(self) -> None:
        self.vendor.play(whole({"no": "key"}, status=401))
        sources = self.sources(acme_weather={"api_key": "k-123"})
        calls = ({"name": "get_weather", "arguments": {"city": "Rome"}},)
        house = self.house(clock=self.network, tools=sources, llm={"calls": calls})
        visitor = house.connect()
        answer = house.until(visitor.device.text("what is the weather"))
        self.assertEqual(answer.text, "Error: weather.example answered with status 401")


class SocketTests(TestCase):
    """The same file over real sockets."""

    async def test_a_call(self) -> None:
        install(self)
        vendor = ScriptedVendor(reactor, whole({"degrees": 7}))
        port: Any = reactor.listenTCP(0, vendor, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/now"
        sources = configured(reactor, acme_weather={"api_key": "k", "url": url}, time=False)
        (source,) = sources.all
        box = Toolbox(source.tools(ToolSession(Device("d", "c", "u"))))
        result = await box.call("get_weather", '{"city": "Rome"}')
        self.assertEqual(result.text, '{"degrees": 7}')
        self.assertEqual(vendor.requests[0].headers["authorization"], "Bearer k")
        self.assertEqual((await box.call("last_city", "{}")).say, "It was Rome.")
        await sources.stop()
