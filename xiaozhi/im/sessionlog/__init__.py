"""The session log: write-behind to the database, spool, retention."""
