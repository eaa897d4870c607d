"""The tool sources that come with the package."""

from xiaozhi.tools.builtin.time import functions as time_functions

__all__ = ["time_functions"]
