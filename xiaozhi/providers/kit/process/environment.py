"""The environment of child processes: what a program needs to run, and no secret.

Keys of vendors and passwords of databases are commonly given to a service in its
environment. A child that crashes on hostile input, or is taken over by it, must not
hold them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

#: What an interpreter, its libraries and the loader need to behave as in the parent.
_PASSED = frozenset(
    {
        "ESPEAK_DATA_PATH",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "MALLOC_ARENA_MAX",
        "OMP_NUM_THREADS",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED",
        "PYTHONHOME",
        "PYTHONIOENCODING",
        "PYTHONPATH",
        "PYTHONPYCACHEPREFIX",
        "PYTHONUTF8",
        "PYTHONWARNINGS",
        "SYSTEMROOT",
        "TEMP",
        "TMP",
        "TMPDIR",
        "TZ",
        "VIRTUAL_ENV",
    }
)


def child_environment(
    further: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables a child is started with.

    :param further: names of more variables that this child needs.
    :param environment: by default that of the process.
    """
    source = os.environ if environment is None else environment
    wanted = _PASSED.union(further)
    return {
        name: value for name, value in source.items() if name in wanted or name.startswith("LC_")
    }
