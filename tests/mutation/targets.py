"""Modules to mutate, and the unit tests that must notice the mutants."""

from __future__ import annotations

_BRIDGE = (
    "bridge.test_bridge_client",
    "bridge.test_bridge_faults",
    "bridge.test_bridge_pair",
    "bridge.test_bridge_server",
    "bridge.test_bridge_gaps",
)
_TURNS = ("ai.test_ai_turn", "ai.test_ai_speech", "ai.test_ai_timeline", "runtime.test_cancelling")
_CHAT = (
    "providers.test_openai_chat",
    "providers.test_openai_delta",
    "providers.test_openai_http",
    "providers.test_vendor_answers",
    "providers.test_vendor_tools",
)

# Module → modules under xiaozhi.test.
TARGETS: dict[str, tuple[str, ...]] = {
    "xiaozhi.bridge.delivery.incoming": ("bridge.test_bridge_incoming", *_BRIDGE),
    "xiaozhi.bridge.delivery.outgoing": ("bridge.test_bridge_outgoing", *_BRIDGE),
    "xiaozhi.im.playout.pacer": ("im.test_im_pacer",),
    "xiaozhi.im.session.link": (
        "im.test_link_counts",
        "im.test_im_link",
        "im.test_departure",
        "talks.test_leaks",
        "talks.test_outage_alerts",
    ),
    "xiaozhi.im.session.intake": (
        "im.test_im_intake",
        "im.test_im_link",
        "talks.test_outage_alerts",
    ),
    "xiaozhi.im.session.turngate": ("im.test_turncontrol",),
    "xiaozhi.im.session.departure": ("im.test_departure",),
    "xiaozhi.im.session.delivery": ("im.test_im_delivery", "im.test_im_link", "im.test_im_limits"),
    "xiaozhi.ai.session.states": ("ai.test_session_states",),
    "xiaozhi.ai.session.conversation": (
        "ai.test_ai_session",
        "ai.test_session_agents",
        "talks.test_confirmed_tools",
        "im.test_turncontrol",
        "talks.test_interruptions",
        "talks.test_conversation_interrupted",
        "talks.test_conversation",
        "im.test_departure",
        "talks.test_leaks",
    ),
    "xiaozhi.ai.turn.turn": (
        "ai.test_turn_phases",
        *_TURNS,
        "ai.test_turn_results",
        "talks.test_confirmed_tools",
    ),
    "xiaozhi.ai.speech.output": ("ai.test_ai_speech", *_TURNS[2:], "ai.test_ai_turn"),
    "xiaozhi.ai.listening.endpointer": (
        "ai.test_ai_endpointer",
        "talks.test_conversation_interrupted",
    ),
    "xiaozhi.providers.kit.failover.group": (
        "providers.test_failover",
        "talks.test_failover_talk",
        "providers.test_breaker",
    ),
    "xiaozhi.providers.kit.failover.candidate": (
        "providers.test_failover",
        "providers.test_provider_leases",
    ),
    "xiaozhi.providers.kit.registry": (
        "providers.test_provider_leases",
        "providers.test_provider_registry",
    ),
    "xiaozhi.ai.session.services": ("ai.test_agent_services",),
    "xiaozhi.providers.openai.chat": _CHAT,
    "xiaozhi.providers.openai.completion": (
        "providers.test_openai_completion",
        "providers.test_openai_vision",
        *_CHAT,
    ),
}
