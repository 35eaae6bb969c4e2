"""Emulators of Google's services, started by test fixtures and by `make emulators`."""
