"""Values, errors and text filters that every layer may use. Pure: no Twisted, no I/O."""
