"""The environment of child processes: what a program needs to run, and no secrets.

Keys of vendors and passwords of databases are often passed to a service in its environment. A child
that crashes on hostile input, or is taken over by it, must not have them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

#: Variables that the interpreter, its libraries and the loader need to behave as in the parent.
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
    """Return the environment of a child.

    :param further: names of more variables that this child needs.
    :param environment: the process's by default.
    """
    source = os.environ if environment is None else environment
    wanted = _PASSED.union(further)
    return {
        name: value for name, value in source.items() if name in wanted or name.startswith("LC_")
    }
