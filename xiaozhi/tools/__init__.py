"""Tools: what an assistant can do besides talking; names, schemas, arguments, results."""
