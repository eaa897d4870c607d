"""Ids of stored records."""

from __future__ import annotations

import os
import uuid

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.ids import new_id


class IdTests(SynchronousTestCase):
    def test_random_and_each_another(self) -> None:
        ids = [new_id() for _ in range(10_000)]
        self.assertEqual(len(set(ids)), 10_000)
        self.assertEqual({(one.version, one.variant) for one in ids}, {(4, uuid.RFC_4122)})

    def test_the_system_is_not_asked(self) -> None:
        self.patch(os, "urandom", lambda _: self.fail("asked"))
        new_id()
