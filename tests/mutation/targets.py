"""What is mutated, and the unit tests that have to notice."""

from __future__ import annotations

_BRIDGE = (
    "test_bridge_client",
    "test_bridge_faults",
    "test_bridge_pair",
    "test_bridge_server",
    "test_bridge_gaps",
)
_TURNS = ("test_ai_turn", "test_ai_speech", "test_ai_timeline", "test_ai_waiting")
_CHAT = (
    "test_openai_chat",
    "test_openai_delta",
    "test_openai_http",
    "test_vendor_answers",
    "test_vendor_tools",
)

# Module → modules of xiaozhi.test.
TARGETS: dict[str, tuple[str, ...]] = {
    "xiaozhi.bridge.incoming": ("test_bridge_incoming", *_BRIDGE),
    "xiaozhi.bridge.outgoing": ("test_bridge_outgoing", *_BRIDGE),
    "xiaozhi.im.pacer": ("test_im_pacer",),
    "xiaozhi.im.link": (
        "test_link_account",
        "test_im_link",
        "test_departure",
        "test_letting_go",
        "test_outage_alerts",
    ),
    "xiaozhi.im.intake": ("test_im_intake", "test_im_link", "test_outage_alerts"),
    "xiaozhi.im.turncontrol": ("test_turncontrol",),
    "xiaozhi.im.departure": ("test_departure",),
    "xiaozhi.im.delivery": ("test_im_delivery", "test_im_link", "test_im_limits"),
    "xiaozhi.ai.session": (
        "test_ai_session",
        "test_turncontrol",
        "test_interruptions",
        "test_conversation_interrupted",
        "test_conversation",
        "test_departure",
        "test_letting_go",
    ),
    "xiaozhi.ai.turn": ("test_turn_course", *_TURNS),
    "xiaozhi.ai.speaking.speech": ("test_ai_speech", *_TURNS[2:], "test_ai_turn"),
    "xiaozhi.ai.hearing.endpointer": ("test_ai_endpointer", "test_conversation_interrupted"),
    "xiaozhi.providers.failover": ("test_failover", "test_failover_talk", "test_breaker"),
    "xiaozhi.providers.openai_chat": _CHAT,
    "xiaozhi.providers.openai_completion": (
        "test_openai_completion",
        "test_openai_vision",
        *_CHAT,
    ),
}
