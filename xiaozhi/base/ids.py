"""Ids of what is stored."""

from __future__ import annotations

from random import Random
from uuid import UUID

# Seeded by the system, which then need not be asked for each of them: to let the
# interpreter's lock go for that and have it back costs a busy process more than all else.
_random = Random()


def new_id() -> UUID:
    """A random id: no other record has it, and nobody is kept from guessing it."""
    return UUID(int=_random.getrandbits(128), version=4)
