"""Counting of objects without those of earlier tests."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase


def leave_out_heap(case: SynchronousTestCase) -> None:
    """Hide all present objects from the garbage collector until the end of the test.

    ``gc.collect`` and ``gc.get_objects`` then cost the same whatever ran before.
    """
    gc.collect()
    gc.freeze()
    case.addCleanup(gc.unfreeze)
