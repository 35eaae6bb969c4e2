"""What is loaded where, and what must be done about it."""
