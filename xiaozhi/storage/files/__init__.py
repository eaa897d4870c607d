"""Files that are kept for a while, in a directory, by age and total size."""

from xiaozhi.storage.files.directory import Area, DirectoryFiles

__all__ = ["Area", "DirectoryFiles"]
