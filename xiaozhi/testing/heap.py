"""Counting of objects without those of earlier tests."""

from __future__ import annotations

import gc


def leave_out_heap() -> None:
    """Hide all present objects from the garbage collector for the rest of the run.

    ``gc.collect`` and ``gc.get_objects`` then cost the same whatever ran before.
    """
    gc.collect()
    gc.freeze()
