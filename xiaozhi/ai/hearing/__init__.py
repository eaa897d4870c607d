"""How a session listens."""
