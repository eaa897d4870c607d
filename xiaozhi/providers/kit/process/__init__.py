"""Child processes for work that blocks or may crash."""
