"""The offline language model: phrase books, without a network."""

from xiaozhi.providers.offline.intents.model import IntentModel, IntentSettings

__all__ = ["IntentModel", "IntentSettings"]
