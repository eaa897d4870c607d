"""A device in software: it behaves as the firmware does, to the letter of the notes.

``python -m xiaozhi.device`` for people, :class:`xiaozhi.device.client.SoftDevice`
for tests, :class:`xiaozhi.device.fleet.Fleet` for load.
"""
