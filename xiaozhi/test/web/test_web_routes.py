"""Routes of the HTTP kit: parameters, guards, typed bodies, faults, streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.testing.posting import admit
from xiaozhi.testing.vendors.httpwire import Reply, Wire, request
from xiaozhi.web.guards import management_guard
from xiaozhi.web.limits.visitors import BoundedVisitors
from xiaozhi.web.options import SiteLimits, SiteStyle
from xiaozhi.web.replies import Reply as WebReply
from xiaozhi.web.replies import StreamReply, json_reply
from xiaozhi.web.routes import Handler, Routes
from xiaozhi.web.site import WebSite


class Volume(Struct, forbid_unknown_fields=True):
    level: int


async def set_volume(number: int, body: Volume) -> WebReply | StreamReply:
    return json_reply({"number": number, "level": body.level})


async def _chunks() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


def stream() -> WebReply | StreamReply:
    return StreamReply(200, _chunks(), "text/plain", length=7)


def broken() -> WebReply | StreamReply:
    raise ZeroDivisionError("secret")


class RouteTests(SynchronousTestCase):
    def setUp(self) -> None:
        routes = Routes()
        guard = management_guard(admit)
        routes.put("/things/{number:int}/volume", set_volume, guard=guard, max_body=100)
        routes.get("/stream", stream)
        routes.get("/broken", broken)
        self.site = WebSite(routes, BoundedVisitors(1), Clock(), SiteLimits(), SiteStyle())

    def send(
        self,
        body: bytes = b'{"level": 3}',
        path: str = "/things/7/volume",
        method: str = "PUT",
        **headers: str,
    ) -> Reply:
        given = {"Authorization": "Bearer admin"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        wire = Wire(self.site)
        wire.send(request(method, path, given, body))
        reply = wire.reply()
        wire.disconnect()
        return reply

    def test_served(self) -> None:
        for path in ("/things/7/volume", "/things/%37/volume/", "http://x/things/7/volume"):
            self.assertEqual(self.send(path=path).json, {"number": 7, "level": 3}, path)

    def test_refused(self) -> None:
        for reply, status, code in (
            (self.send(Authorization="Bearer no"), 401, "bad_token"),
            (self.send(path="/things/x/volume"), 404, "not_found"),
            (self.send(path="/things/%ff/volume"), 404, "not_found"),
            (self.send(b'{"level": "loud"}'), 400, "bad_field"),
            (self.send(b"{"), 400, "bad_json"),
            (self.send(b" " * 101), 413, "too_large"),
            (self.send(Content_Type="text/plain"), 415, "unsupported_media_type"),
            (self.send(method="GET"), 405, "method_not_allowed"),
        ):
            self.assertEqual((reply.status, reply.json["error"]), (status, code))
        self.assertTrue(self.send(b'{"level": "loud"}').json["message"].startswith("level: "))
        refusal = self.send(path="/nothing").json
        # The last one is the alias of an earlier version.
        self.assertEqual([*refusal], ["success", "error", "message", "code"])
        self.assertEqual((refusal["success"], refusal["code"]), (False, refusal["error"]))
        self.assertEqual(self.send(method="GET").headers["allow"], "PUT")

    def test_a_fault_has_an_id_and_no_details(self) -> None:
        reply = self.send(b"", "/broken", "GET")
        self.assertEqual(reply.status, 500)
        self.assertNotIn(b"secret", reply.body)
        self.assertTrue(reply.headers["x-request-id"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stream(self) -> None:
        self.assertEqual(self.send(b"", "/stream", "GET").body, b"one two")

    def test_a_route_must_fit_its_handler(self) -> None:
        for path, handler in (
            ("things", set_volume),
            ("/things", set_volume),
            ("/things/{number}", set_volume),
            ("/things/{number:float}", set_volume),
            ("/things/{other:int}", broken),
        ):
            made: Handler = handler
            self.assertRaises(ValueError, Routes().get, path, made)
