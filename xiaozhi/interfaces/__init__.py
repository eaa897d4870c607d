"""All seams of the program, by subject.

One-shot operations return a ``Deferred``; streams are async generators, closed with
``contextlib.aclosing``; everything runs in the reactor's thread. The two ``tap`` modules choose
the implementation of each seam.
"""

from __future__ import annotations

from xiaozhi.interfaces.agents import IAgents
from xiaozhi.interfaces.bridge import (
    IBridge,
    IEdgeEvents,
    IEdgeLink,
    IServiceEvents,
    IServiceLink,
    ISessionAcceptor,
    ISessionEvents,
    ISessionLink,
)
from xiaozhi.interfaces.device import (
    IAuthenticator,
    IDeviceChannel,
    IDeviceEvents,
    IDeviceInbox,
    IDeviceTokens,
    IInboxReader,
    IPresence,
    IPresentDevice,
)
from xiaozhi.interfaces.incremental import IIncrementalSynthesizer, ISpeechStream
from xiaozhi.interfaces.memory import IMemory
from xiaozhi.interfaces.providers import (
    IAdaptive,
    ICapable,
    ILanguageModel,
    IOfModel,
    IPreparable,
    IProvider,
    IProviderMaker,
    IRecognition,
    IRecognizer,
    ISynthesizer,
    ITurnDetector,
    IVisionModel,
    IVoiceActivity,
    IVoiceActivityDetector,
    ProviderRuntime,
)
from xiaozhi.interfaces.stores import (
    IDeviceRegistry,
    IDialogueStore,
    IFileStore,
    IFileWriter,
    ISessionStore,
    ISpool,
)
from xiaozhi.interfaces.toolruntime import (
    IToolSourceMaker,
    IToolStore,
    ToolHttp,
    ToolHttpReply,
    ToolMailbox,
    ToolRuntime,
    ToolTimers,
    ToolValues,
)
from xiaozhi.interfaces.tools import ITool, IToolSource
from xiaozhi.interfaces.work import Offload, TimedOffload

__all__ = [
    "IAdaptive",
    "IAgents",
    "IAuthenticator",
    "IBridge",
    "ICapable",
    "IDeviceChannel",
    "IDeviceEvents",
    "IDeviceInbox",
    "IDeviceRegistry",
    "IDeviceTokens",
    "IDialogueStore",
    "IEdgeEvents",
    "IEdgeLink",
    "IFileStore",
    "IFileWriter",
    "IInboxReader",
    "IIncrementalSynthesizer",
    "ILanguageModel",
    "IMemory",
    "IOfModel",
    "IPreparable",
    "IPresence",
    "IPresentDevice",
    "IProvider",
    "IProviderMaker",
    "IRecognition",
    "IRecognizer",
    "IServiceEvents",
    "IServiceLink",
    "ISessionAcceptor",
    "ISessionEvents",
    "ISessionLink",
    "ISessionStore",
    "ISpeechStream",
    "ISpool",
    "ISynthesizer",
    "ITool",
    "IToolSource",
    "IToolSourceMaker",
    "IToolStore",
    "ITurnDetector",
    "IVisionModel",
    "IVoiceActivity",
    "IVoiceActivityDetector",
    "Offload",
    "ProviderRuntime",
    "TimedOffload",
    "ToolHttp",
    "ToolHttpReply",
    "ToolMailbox",
    "ToolRuntime",
    "ToolTimers",
    "ToolValues",
]
