"""Built-in tools: server functions that ship with the program."""
