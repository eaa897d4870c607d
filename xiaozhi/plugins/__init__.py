"""Where provider plugins are looked for, also in other distributions.

A module in a directory ``xiaozhi/plugins`` (without ``__init__.py``) anywhere on
``sys.path`` may hold objects that provide ``IPlugin`` and ``IProviderMaker``.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
