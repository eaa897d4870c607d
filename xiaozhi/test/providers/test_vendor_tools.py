"""Vendors and models that reject tools, or some of them."""

from __future__ import annotations

from typing import Any

from xiaozhi.base.values import Role, ToolCall, ToolSpec, Utterance
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.states import health_of
from xiaozhi.test.providers.test_vendor_answers import ASKED, ScriptedCase
from xiaozhi.testing.vendors.answers import plain, say
from xiaozhi.testing.vendors.octets import DONE, event, whole
from xiaozhi.testing.vendors.vendor import Step, VendorRequest

# Status and body.
NO_TOOLS: tuple[tuple[int, Any], ...] = (
    (400, {"error": {"message": "registry.ollama.ai/library/gemma:2b does not support tools",
        "type": "api_error", "param": None, "code": None}}),
    (400, {"error": "registry.ollama.ai/library/deepseek-r1:7b does not support tools"}),
    (400, {"object": "error", "message": '"auto" tool choice requires --enable-auto-tool-choice and'
        " --tool-call-parser to be set", "type": "BadRequestError", "code": 400}),
    (400, {"error": {"message": "deepseek-reasoner does not support Function Calling",
        "type": "invalid_request_error"}}),
    (500, {"error": {"code": 500, "message": "tools param requires --jinja flag",
        "type": "server_error"}}),
    (404, {"error": {"message": "No endpoints found that support tool use. To learn more about"
        " provider routing, visit: https://openrouter.ai/docs", "code": 404}}),
    (400, {"error": {"message": "`tools` is not supported with this model",
        "type": "invalid_request_error"}}),
    (400, {"error": {"message": "tool calling is not supported with this model"}}),
    (400, {"code": 20037, "message": "Function call is not supported for this model."}),
    (400, {"error": {"message": "Function calling is not enabled for this model"}}),
    (400, {"error": {"message": "Unrecognized request argument supplied: tools"}}),
    (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "tools"],
        "msg": "Extra inputs are not permitted", "input": [{"name": "x"}]}]}),
    (400, {"error": {"message": "unknown field 'tools' in request"}}),
    (400, {"error": {"code": "1210", "message": "该模型不支持工具调用"}}),
    (400, {"code": "InvalidParameter", "message": "此模型暂不支持 function call"}),
    (400, {"error": {"message": "Tool use is unavailable: this model doesn't support it"}}),
    (501, {"error": "tools are not implemented"}),
    (400, {"detail": "Model does not support tool calls"}),
    (200, {"error": "model x does not support tools"}),
    (200, {"code": 400, "message": "tools not supported by this model", "success": False}),
    (400, b"Model qwen does not support tool_calls"),
)  # fmt: skip

# About something else: no retry.
OTHERS: tuple[tuple[int, Any, str], ...] = (
    (400, {"error": {"message": "messages: field required"}}, "bad_request"),
    (400, {"error": {"message": "temperature is not supported with this model"}}, "bad_request"),
    (400, {"error": {"message": "no such tool"}}, "bad_request"),
    (400, {"error": {"message": "Unsupported schema in tools[40].function"}}, "bad_request"),
    (401, {"error": {"message": "Your key does not support tools"}}, "unauthorized"),
    (429, {"error": {"message": "Too many requests with tools; not supported"}}, "rate_limited"),
    (400, {"error": {"message": "context length exceeded"}}, "bad_request"),
    (404, {"error": {"message": "model not found"}}, "not_found"),
    (503, {"error": {"message": "overloaded"}}, "vendor_error"),
)

ONE_TOOL: tuple[tuple[int, Any], ...] = (
    (400, {"error": {"message": "Invalid schema for function 'set_volume': [] is not of type"
        " 'object'.", "param": "tools[0].function.parameters"}}),
    (400, {"error": {"message": "tools.0.function.parameters: JSON schema is invalid"}}),
    (400, [{"error": {"code": 400, "message": "* GenerateContentRequest.tools[0]."
        "function_declarations[0].parameters.properties[z].items: missing field.",
        "status": "INVALID_ARGUMENT"}}]),
    (400, {"code": "InvalidParameter", "message": "tool set_volume: parameters not supported"}),
)  # fmt: skip

HELLO: list[Step] = plain(say("Hello."), DONE)


def offered(request: VendorRequest) -> list[str]:
    """Return the tools that a request offers."""
    return [tool["function"]["name"] for tool in request.json().get("tools", ())]


class NoToolsTests(ScriptedCase):
    """A retry without tools, and no tools afterwards."""

    def remake(self) -> None:
        closing = self.chat.close()
        self.network.settle()
        self.successResultOf(closing)
        self.chat = self.make()
        self.vendor.requests.clear()

    def test_asked_again_without(self) -> None:
        for status, body in NO_TOOLS:
            self.remake()
            self.vendor.play([*whole(body, status=status)], HELLO)
            self.assertEqual(self.ask(), ("Hello.", [], ""), repr(body))
            first, second = self.vendor.requests
            self.assertEqual((offered(first), offered(second)), (["set_volume", "get_time"], []))
            self.assertNotIn("tools", second.json())
            self.assertEqual(self.chat.refused, ("tools",))
            # Remembered: the next question causes no rejection.
            self.assertEqual(self.ask(), ("Hello.", [], ""))
            self.assertEqual(len(self.vendor.requests), 3)
            self.assertEqual(offered(self.vendor.last), [])

    def test_in_the_stream(self) -> None:
        self.vendor.play(plain(event({"error": {"message": "m does not support tools"}})), HELLO)
        self.assertEqual(self.ask(), ("Hello.", [], ""))

    def test_about_something_else(self) -> None:
        for status, body, code in OTHERS:
            self.remake()
            self.vendor.play([*whole(body, status=status)], HELLO)
            self.assertEqual(self.ask()[2], code, repr(body))
            self.assertEqual((len(self.vendor.requests), self.chat.refused), (1, ()))

    def test_not_remembered_unless_it_helps(self) -> None:
        refusal = [*whole({"error": "m does not support tools"}, status=400)]
        self.vendor.play(refusal)
        self.assertEqual(self.ask()[2], "bad_request")
        self.assertEqual((len(self.vendor.requests), self.chat.refused), (2, ()))

    def test_no_tools_were_offered(self) -> None:
        self.vendor.play([*whole({"error": "m does not support tools"}, status=400)])
        self.assertEqual(self.ask(tools=())[2], "bad_request")
        self.assertEqual(len(self.vendor.requests), 1)

    def test_nothing_is_said_twice(self) -> None:
        late = event({"error": {"message": "m does not support tools"}})
        self.vendor.play(plain(say("Hel"), late), HELLO)
        self.assertEqual(self.ask()[::2], ("Hel", "bad_request"))

    def test_earlier_tool_calls(self) -> None:
        """A dialogue of another model may contain calls, which this vendor would reject."""
        call = ToolCall("c", "get_time", "{}")
        dialogue = [
            *ASKED,
            Utterance(Role.ASSISTANT, "Wait.", (call,)),
            Utterance(Role.TOOL, "15:42", call_id="c"),
            Utterance(Role.ASSISTANT, "", (call,)),
            Utterance(Role.TOOL, "15:43", call_id="c"),
            Utterance(Role.ASSISTANT, "It is late."),
        ]
        self.vendor.play([*whole({"error": "m does not support tools"}, status=400)], HELLO)
        self.asked = dialogue
        self.assertEqual(self.ask()[0], "Hello.")
        messages = self.vendor.last.json()["messages"]
        self.assertEqual(
            [(message["role"], message["content"]) for message in messages],
            [("user", "Hi"), ("assistant", "Wait."), ("assistant", "It is late.")],
        )
        self.assertFalse([message for message in messages if "tool_calls" in message])

    def test_usage_and_tools(self) -> None:
        self.vendor.play(
            [*whole({"error": "stream_options: unknown field"}, status=400)],
            [*whole({"error": "m does not support tools"}, status=400)],
            HELLO,
        )
        self.assertEqual(self.ask(), ("Hello.", [], ""))
        self.assertNotIn("stream_options", self.vendor.last.json())

    def test_one_tool_alone_is_left_out(self) -> None:
        for status, body in ONE_TOOL:
            self.remake()
            self.vendor.play([*whole(body, status=status)], HELLO)
            self.assertEqual(self.ask(), ("Hello.", [], ""), repr(body))
            self.assertEqual(offered(self.vendor.last), ["get_time"], repr(body))
            self.assertEqual(self.chat.refused, ("tool set_volume",))
            self.ask()
            self.assertEqual(len(self.vendor.requests), 3)

    def test_it_ends(self) -> None:
        """A vendor that rejects one tool after the other."""
        tools = [ToolSpec(f"t{n}", "x", {"type": "object"}) for n in range(9)]

        def refuse(request: VendorRequest) -> list[Step]:
            name = offered(request)[0]
            return [*whole({"error": f"Invalid schema for function '{name}'"}, status=400)]

        self.vendor.play(refuse)
        self.assertEqual(self.ask(tools=tools)[2], "bad_request")
        self.assertEqual(len(self.vendor.requests), 4)
        self.assertEqual(self.chat.refused, ())

    def test_health_says_so(self) -> None:
        group = FailoverGroup.of("llm", [("openai", self.chat)], FailoverSettings(), self.network)
        self.assertEqual(health_of(group.status())["llm"][0]["refused"], [])
        self.vendor.play([*whole({"error": "m does not support tools"}, status=400)], HELLO)
        self.ask()
        (told,) = health_of(group.status())["llm"]
        self.assertEqual((told["refused"], told["state"]), (["tools"], "closed"))
