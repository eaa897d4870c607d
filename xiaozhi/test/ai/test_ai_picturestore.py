"""Stored pictures."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.ai.vision.store import AREA, PictureStore
from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IVisionModel
from xiaozhi.testing.files import MemoryFiles
from xiaozhi.testing.logs import LogLines
from xiaozhi.testing.parts import scripted

CAT = Picture(b"a cat", "image/png", 1, 1)


class PictureStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = MemoryFiles()
        self.store = PictureStore(scripted(Clock()).vlllm, self.files)

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IVisionModel, self.store))

    def test_each_is_kept(self) -> None:
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.store.describe(CAT, "?")), "A picture.")
        kept = [(area, data) for (area, _), data in self.files.kept.items()]
        self.assertEqual(kept, [(AREA, b"a cat")] * 2)

    def test_a_picture_that_cannot_be_stored_is_described(self) -> None:
        class Full(MemoryFiles):
            def put(self, area: str, key: str, data: bytes) -> Deferred[str]:
                return fail(StoreError("files_unavailable", "no room"))

        store = PictureStore(scripted(Clock()).vlllm, Full())
        log = LogLines(self)
        for _ in range(3):
            self.assertEqual(self.successResultOf(store.describe(CAT, "?")), "A picture.")
        self.assertEqual(log.count("pictures are described but not stored: no room"), 1)
