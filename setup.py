"""Packaging: everything is in setup.cfg but the packages, which are found by their folders."""

from setuptools import find_packages, setup

# twisted/plugins is no package of ours, so it has no __init__.py to be found by.
setup(packages=["twisted.plugins", *find_packages(include=["xiaozhi", "xiaozhi.*"])])
