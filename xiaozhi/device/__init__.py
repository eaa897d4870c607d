"""A software device that behaves as the firmware does, as docs/protocol-notes.md describes it.

``python -m xiaozhi.device`` for people, :class:`xiaozhi.device.client.SoftDevice`
for tests, :class:`xiaozhi.device.fleet.Fleet` for load.
"""
