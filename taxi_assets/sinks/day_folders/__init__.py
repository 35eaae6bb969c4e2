"""A dataset in day folders, a month of it replaced through a journal object."""
