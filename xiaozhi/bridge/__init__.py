"""The bridge between the services: long-lived gRPC streams that carry all sessions.

Everything that decides anything runs on the reactor's thread, on a clock that
is a parameter; an asyncio thread moves the items (``loop``, ``grpc_*``), or,
in tests and where both services share a process, a heap of delayed calls
(``memory``). The edge holds a :class:`~xiaozhi.bridge.client.BridgeClient`,
the AI service a :class:`~xiaozhi.bridge.server.BridgeServer`.

==============  =============================================================
``settings``    what can be configured
``items``       the protobuf messages on a stream: making and batching them
``streams``     the interfaces between those who decide and those who carry
``backoff``     when to try again
``heartbeat``   is the other side alive, and how far away
``deadlines``   what may take so long and no longer
``outbox``      gathers audio for a moment before a write; knows a full stream
``session``     one end of a session: what both sides have in common, of
``outgoing``    what it sends, with ``waiting`` (not sent yet) and ``kept`` (not
                acknowledged yet), both bounded, and
``incoming``    what it receives: counted, acknowledged, granted
``slot``        edge: one stream to a target, kept up
``target``      edge: the slots to one AI address
``client``      edge: the pool, and who is placed where; ``client_session``
``discovery``   edge: which addresses there are
``server``      AI service: sessions, on whatever stream; ``server_session``
``edge_stream`` AI service: one stream from an edge
``security``    certificates and the token, read and checked
==============  =============================================================
"""

import os

# gRPC's C core writes lines of its own to standard error; what matters in them
# comes as an error through Python, too. Read when grpc is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Without its event engine a message goes through a thread less, which a busy machine feels
# most (docs/performance.md). A gRPC that cannot do without ignores this.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
