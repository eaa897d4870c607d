"""Child processes do not inherit secrets."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.providers.kit.process.environment import child_environment
from xiaozhi.providers.kit.process.worker import Worker, WorkerOptions

#: Variables, and whether a child gets them.
VARIABLES = (
    ("PATH", True),
    ("HOME", True),
    ("LANG", True),
    ("LC_ALL", True),
    ("LC_CTYPE", True),
    ("PYTHONPATH", True),
    ("LD_LIBRARY_PATH", True),
    ("TMPDIR", True),
    ("OPENAI_API_KEY", False),
    ("DASHSCOPE_API_KEY", False),
    ("DATABASE_URL", False),
    ("PGPASSWORD", False),
    ("REDIS_URL", False),
    ("XIAOZHI_TOKEN", False),
    ("LC", False),
    ("PATH_SECRET", False),
    ("path", False),
    ("AWS_SECRET_ACCESS_KEY", False),
    ("HTTPS_PROXY", False),  # may hold a password
    ("SSH_AUTH_SOCK", False),
    ("LD_PRELOAD", False),
)


class Starting(Clock):
    """Records the environments of spawned processes."""

    def __init__(self) -> None:
        super().__init__()
        self.environments: list[Any] = []

    def spawnProcess(self, protocol: Any, executable: str, args: Any, env: Any = None) -> None:
        self.environments.append(env)


class ChildEnvironmentTests(SynchronousTestCase):
    def test_only_what_is_needed(self) -> None:
        whole = {name: f"value of {name}" for name, _ in VARIABLES}
        given = child_environment(environment=whole)
        for name, passed in VARIABLES:
            self.assertEqual(given.get(name), f"value of {name}" if passed else None, name)

    def test_a_child_may_need_more(self) -> None:
        whole = {"MODEL_HOME": "/models", "OPENAI_API_KEY": "secret"}
        self.assertEqual(child_environment(["MODEL_HOME"], whole), {"MODEL_HOME": "/models"})

    def test_workers_start_their_child_with_it(self) -> None:
        self.patch(os, "environ", {"PATH": "/bin", "OPENAI_API_KEY": "secret", "MORE": "1"})
        for variables, expected in (
            ((), {"PATH": "/bin"}),
            (("MORE",), {"PATH": "/bin", "MORE": "1"}),
        ):
            reactor = Starting()
            Worker(reactor, "some.module", options=WorkerOptions(variables=variables)).prepare()
            self.assertEqual(reactor.environments, [expected])
