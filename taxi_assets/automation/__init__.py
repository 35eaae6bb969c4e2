"""What runs by itself: sensors and schedules, the deadline checks, upkeep, and alerts.

`probing` asks the publisher, `month_records` the Dagster instance, and `judging` decides from both what is to be done about
a month; sensors, schedules, deadlines and `make backfill` all go by that.
"""
