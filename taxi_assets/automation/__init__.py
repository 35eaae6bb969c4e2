"""Sensors, schedules, deadline checks, housekeeping and alerts. What to do about a month is decided in `status`."""
