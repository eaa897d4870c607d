"""XiaoZhi IM: the backend XiaoZhi voice devices talk to."""

__version__ = "0.1.0"
