"""Parsing of ``/metrics``."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


class Scraped:
    """One page, parsed as Prometheus does.

    :ivar names: of all metrics, as in queries, including those without a sample.
    """

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            self.names.add(f"{family.name}_total" if family.type == "counter" else family.name)
            for sample in family.samples:
                self._samples[sample.name, frozenset(sample.labels.items())] = sample.value

    def __call__(self, name: str, /, **labels: str) -> float:
        """Return the value of a series. :raises KeyError: no such series."""
        return self._samples[name, frozenset(labels.items())]

    def total(self, name: str, /, **labels: str) -> float:
        """Return the sum of all series of a name that have these labels."""
        wanted = labels.items()
        return sum(
            value
            for (found, has), value in self._samples.items()
            if found == name and wanted <= set(has)
        )

    def label_values(self) -> set[str]:
        """Return every value of every label."""
        return {value for _, labels in self._samples for _, value in labels}
