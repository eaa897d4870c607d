"""Ids of stored records."""

from __future__ import annotations

from random import Random
from uuid import UUID

# Seeded by the system once, instead of a system call for each id: releasing and regaining
# the interpreter's lock costs a busy process more than everything else here.
_random = Random()


def new_id() -> UUID:
    """Return a random id, unique but not secret."""
    return UUID(int=_random.getrandbits(128), version=4)
