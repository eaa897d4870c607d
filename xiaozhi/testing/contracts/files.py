"""Contract of every :class:`~xiaozhi.interfaces.IFileStore`, as tests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.interfaces import IFileStore, IFileWriter

AREA = "phrases"


class FileStoreContract:
    """Mix into a test case that has :meth:`make`."""

    def make(self) -> IFileStore:
        """Make an empty store with the area ``phrases``."""
        raise NotImplementedError

    def setUp(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        self.files = self.make()

    def test_interface(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        self.assertTrue(verifyObject(IFileStore, self.files))

    def test_kept(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        for data in (b"", b"one", bytes(100_000)):
            self.successResultOf(self.files.put(AREA, "a key", data))
            self.assertEqual(self.successResultOf(self.files.get(AREA, "a key")), data)

    def test_nothing_there(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        self.assertIsNone(self.successResultOf(self.files.get(AREA, "a key")))

    def test_growing(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        writer = self.files.writer(AREA)
        self.assertTrue(verifyObject(IFileWriter, writer))
        for data in (b"one", b"", b"two"):
            self.successResultOf(writer.write(data))
        self.successResultOf(writer.close())
        self.successResultOf(self.files.writer(AREA).close())

    def test_keys_are_any_text(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        keys = ["", "../../etc/passwd", "/", "\0", "你好", "\ud800", "a" * 10_000, "CON", "A", "a"]
        for number, key in enumerate(keys):
            self.successResultOf(self.files.put(AREA, key, str(number).encode()))
        for number, key in enumerate(keys):
            found = self.successResultOf(self.files.get(AREA, key))
            self.assertEqual(found, str(number).encode(), key)
