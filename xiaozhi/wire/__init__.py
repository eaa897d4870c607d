"""The device protocol as values, JSON, binary frames and protobuf. Pure."""
