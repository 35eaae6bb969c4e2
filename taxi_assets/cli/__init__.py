"""The command line, `taxi-assets`."""
