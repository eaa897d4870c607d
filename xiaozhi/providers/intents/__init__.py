"""The offline language model: phrase books instead of a network."""

from .model import IntentModel, IntentSettings

__all__ = ["IntentModel", "IntentSettings"]
