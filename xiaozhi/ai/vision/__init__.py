"""Pictures: validation of an upload and the store of the last ones."""
