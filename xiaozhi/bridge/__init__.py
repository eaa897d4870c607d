"""The bridge between the services: long-lived gRPC streams that carry all sessions.

All decisions run on the reactor's thread, on a clock that is a parameter. Carriers
move the items: an asyncio thread (``grpc``), or delayed calls in tests and where
both services share a process (``memory``). The edge holds a
:class:`~xiaozhi.bridge.edge.client.BridgeClient`, the AI service a
:class:`~xiaozhi.bridge.service.server.BridgeServer`.

=============  ==============================================================
``settings``   configuration
``items``      the protobuf messages on a stream: making and batching them
``streams``    the interfaces between decisions and carriers
``deadlines``  a set whose members expire
``security``   certificates and the token, read and checked
``memory``     the carrier within one process
``delivery``   one session, both directions: order, retention, credit, queues
``edge``       edge: the pool of streams, its sessions, discovery of addresses
``service``    AI service: streams from edges, their sessions, quotas
``grpc``       the carrier between processes
=============  ==============================================================
"""

import os

# gRPC's C core writes to standard error. Errors that matter also reach Python as
# exceptions. Read when grpc is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Without the event engine a message crosses one thread less, which matters most on a busy
# machine (docs/performance.md). A gRPC version that requires it ignores this.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
