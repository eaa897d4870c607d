"""Files in a directory, with a maximum age and total size."""

from xiaozhi.storage.files.directory import Area, DirectoryFiles

__all__ = ["Area", "DirectoryFiles"]
