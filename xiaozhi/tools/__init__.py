"""Tools: functions that the model can call; sources, names, schemas, arguments, results."""
