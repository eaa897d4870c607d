"""File store with retention."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IFileStore
from xiaozhi.storage.files import Area, DirectoryFiles
from xiaozhi.testing.contracts.files import AREA, FileStoreContract
from xiaozhi.testing.files import MemoryFiles
from xiaozhi.testing.parts import inline_offload


class MemoryFilesTests(FileStoreContract, SynchronousTestCase):
    def make(self) -> IFileStore:
        return MemoryFiles()


class DirectoryFilesTests(FileStoreContract, SynchronousTestCase):
    def make(self) -> IFileStore:
        return self.opened(Area(0, 0))

    def opened(self, area: Area, now: float = 1000.0) -> DirectoryFiles:
        self.root = Path(self.mktemp())
        self.now = now
        return DirectoryFiles(self.root, {AREA: area}, inline_offload, lambda: self.now)

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.root / AREA).iterdir())

    def test_names_never_come_from_input(self) -> None:
        files = self.opened(Area(0, 0, ".jpg"))
        name = self.successResultOf(files.put(AREA, "../evil", b"x"))
        self.assertRegex(name, r"^[0-9a-f]{40}\.jpg$")
        self.assertEqual(self.names(), [name])
        self.assertEqual([path.name for path in self.root.iterdir()], [AREA])

    def test_others_may_not_read(self) -> None:
        files = self.opened(Area(0, 0))
        name = self.successResultOf(files.put(AREA, "key", b"x"))
        path = self.root / AREA / name
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(path.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual(path.parent.parent.stat().st_mode & 0o777, 0o700)

    def test_a_growing_file_is_as_private(self) -> None:
        files = self.opened(Area(0, 0, ".jsonl"))
        area = self.root / "deep" / AREA
        area.mkdir(parents=True, mode=0o755)
        files = DirectoryFiles(self.root / "deep" / "er", {AREA: Area(0, 0)}, inline_offload)
        self.successResultOf(files.writer(AREA).write(b"x"))
        for made in (self.root / "deep" / "er" / AREA, self.root / "deep" / "er"):
            self.assertEqual(made.stat().st_mode & 0o777, 0o700)
        # An earlier file that others can read.
        self.assertEqual(area.stat().st_mode & 0o777, 0o755)
        files = DirectoryFiles(self.root / "deep", {AREA: Area(0, 0)}, inline_offload)
        self.successResultOf(files.writer(AREA).write(b"x"))
        self.assertEqual(area.stat().st_mode & 0o777, 0o700)

    def test_failed_write_leaves_nothing(self) -> None:
        files = self.opened(Area(0, 0))
        self.successResultOf(files.put(AREA, "key", b"old"))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "replace", full)
        failure = self.failureResultOf(files.put(AREA, "key", b"new"), StoreError)
        self.assertIn("No space left", failure.value.message)
        self.assertEqual(self.successResultOf(files.get(AREA, "key")), b"old")
        self.assertEqual(len(self.names()), 1)

    def test_a_growing_file_is_there_when_it_is_complete(self) -> None:
        files = self.opened(Area(0, 0, ".jsonl"))
        writer = files.writer(AREA)
        self.successResultOf(writer.write(b"one"))
        self.successResultOf(writer.write(b"two"))
        (part,) = self.names()
        self.assertRegex(part, r"^\d{8}T\d{6}-[0-9a-f]{12}\.jsonl\.part$")
        self.successResultOf(writer.close())
        (name,) = self.names()
        self.assertEqual(f"{name}.part", part)
        path = self.root / AREA / name
        self.assertEqual((path.read_bytes(), path.stat().st_mode & 0o777), (b"onetwo", 0o600))

    def test_place_that_cannot_be_used(self) -> None:
        files = self.opened(Area(0, 0))
        self.root.write_text("a file")
        for call in (files.put(AREA, "key", b"x"), files.get(AREA, "key"), files.purge(10)):
            self.assertEqual(self.failureResultOf(call, StoreError).value.code, "files_unavailable")

    def put(self, files: DirectoryFiles, key: str, size: int, at: float) -> None:
        name = self.successResultOf(files.put(AREA, key, bytes(size)))
        os.utime(self.root / AREA / name, (at, at))

    def left(self, files: DirectoryFiles, *keys: str) -> list[str]:
        """Return which of these files exist, without using them."""
        names = {name.partition(".")[0] for name in self.names()}
        return [key for key in keys if files._name(AREA, key).partition(".")[0] in names]

    def test_age(self) -> None:
        files = self.opened(Area(100, 0))
        self.put(files, "old", 1, 899)
        self.put(files, "new", 1, 901)
        self.assertEqual(self.successResultOf(files.purge(10)), 1)
        self.assertEqual(self.left(files, "old", "new"), ["new"])
        self.assertEqual(files.removed, 1)

    def test_used_ones_stay(self) -> None:
        files = self.opened(Area(100, 0))
        self.put(files, "old", 1, 899)
        self.successResultOf(files.get(AREA, "old"))
        self.assertEqual(self.successResultOf(files.purge(10)), 0)

    def test_portions(self) -> None:
        files = self.opened(Area(100, 0))
        for number in range(5):
            self.put(files, str(number), 1, 1)
        self.assertEqual([self.successResultOf(files.purge(2)) for _ in range(4)], [2, 2, 1, 0])

    def test_unfinished_files(self) -> None:
        """Except files that another process is writing."""
        files = self.opened(Area(0, 0))
        self.put(files, "key", 1, 1)
        for name, age in (("left.part", 3601), ("fresh.part", 3599)):
            path = self.root / AREA / name
            path.write_bytes(b"x")
            os.utime(path, (1000 - age, 1000 - age))
        self.assertEqual(self.successResultOf(files.purge(10)), 1)
        self.assertIn("fresh.part", self.names())
        self.assertEqual(self.left(files, "key"), ["key"])

    @given(
        st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=12),
        st.integers(1, 150),
        st.integers(1, 200),
    )
    def test_retention(self, put: list[tuple[int, int]], max_age: int, max_bytes: int) -> None:
        """Remaining files are neither too old nor too large in total; removed ones had to go."""
        files = self.opened(Area(max_age, max_bytes))
        for number, (age, size) in enumerate(put):
            self.put(files, str(number), size, 1000 - age)
        self.successResultOf(files.purge(100))
        keys = [str(number) for number in range(len(put))]
        left = self.left(files, *keys) if put else []
        stays = [put[int(key)] for key in left]
        self.assertTrue(all(age <= max_age for age, _ in stays))
        self.assertLessEqual(sum(size for _, size in stays), max_bytes)
        for key in set(keys) - set(left):
            age, size = put[int(key)]
            with_newer = sum(each for when, each in put if when <= age)
            self.assertTrue(age > max_age or with_newer > max_bytes)
