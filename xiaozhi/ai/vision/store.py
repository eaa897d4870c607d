"""Picture store: keeps the pictures that devices send for a while, if configured."""

from __future__ import annotations

from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IFileStore, IVisionModel

#: The area of the file store.
AREA = "pictures"


@implementer(IVisionModel)
class PictureStore:
    """Vision model that stores each picture it describes.

    Storing neither delays nor fails an answer. Consecutive failures are logged once.
    """

    _log = Logger()

    def __init__(self, model: IVisionModel, files: IFileStore) -> None:
        self._model = model
        self._files = files
        self._failing = False

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        """See :class:`~xiaozhi.interfaces.IVisionModel`."""
        keeping = self._files.put(AREA, uuid4().hex, picture.data)
        keeping.addCallbacks(self._kept, self._lost)
        words: Deferred[str] = self._model.describe(picture, question)
        return words

    def close(self) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.IProvider`."""
        closed: Deferred[None] = self._model.close()
        return closed

    def _kept(self, name: str) -> None:
        self._failing = False

    def _lost(self, failure: Failure) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn(
                "pictures are described but not stored: {error}",
                error=failure.getErrorMessage(),
            )
