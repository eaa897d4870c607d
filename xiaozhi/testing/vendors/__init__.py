"""A scripted vendor: byte-exact answers over memory or real sockets."""
