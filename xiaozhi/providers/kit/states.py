"""State of all live providers, for health and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from xiaozhi.base.values import ProviderStatus
from xiaozhi.metrics.instruments import OTHER

# References with their own label in metrics; the others share one, so labels stay bounded.
_MOST = 100

# From best to worst.
_STATES = ("unused", "closed", "half_open", "open")


def combined(
    statuses: Iterable[ProviderStatus], past: Mapping[tuple[str, ...], int]
) -> list[ProviderStatus]:
    """Combine the instances of each reference, which differ in their settings.

    :param past: failed attempts of instances that are closed, by kind, name and code. A
        reference without a live instance has the state ``unused``.
    """
    found: dict[tuple[str, str], ProviderStatus] = {}

    def add(each: ProviderStatus) -> None:
        key = each.kind, each.name
        if key not in found and len(found) >= _MOST:
            key = each.kind, OTHER
            each = replace(each, name=OTHER)
        found[key] = _worse(found[key], each) if key in found else each

    for each in statuses:
        add(each)
    for (kind, name, code), count in past.items():
        add(ProviderStatus(kind, name, "", "unused", failed={code: count}))
    return [*found.values()]


def _worse(one: ProviderStatus, other: ProviderStatus) -> ProviderStatus:
    first, second = sorted((one, other), key=lambda each: -_STATES.index(each.state))
    return replace(
        first,
        model=first.model if first.model == second.model or second.state == "unused" else "",
        failures=max(one.failures, other.failures),
        trouble=first.trouble or second.trouble,
        failed={
            code: one.failed.get(code, 0) + other.failed.get(code, 0)
            for code in {**one.failed, **other.failed}
        },
        refused=tuple(dict.fromkeys((*first.refused, *second.refused))),
    )


def health_of(statuses: Iterable[ProviderStatus]) -> dict[str, list[dict[str, Any]]]:
    """Describe live providers by kind, for people."""
    described: dict[str, list[dict[str, Any]]] = {}
    for each in statuses:
        if each.state == "unused":
            continue
        described.setdefault(each.kind, []).append(
            {
                "name": each.name,
                "model": each.model,
                "state": each.state,
                "failures": each.failures,
                "retry_in": round(each.wait, 1),
                "trouble": each.trouble,
                "refused": list(each.refused),
                "capabilities": dict(each.capabilities),
            }
        )
    return described


def trouble_of(statuses: Iterable[ProviderStatus]) -> str:
    """Name the providers whose circuit is open; empty: none."""
    return "; ".join(
        f"{each.kind} {each.name}: {each.trouble}" for each in statuses if each.state == "open"
    )
