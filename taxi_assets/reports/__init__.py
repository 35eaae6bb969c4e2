"""What a month looks like: its figures, the daily summary, and the page that shows them; no Dagster assets in here.

`profile` counts `figures`, `daily_summary` sums by SQL, `charts` and `bars` lay out, `words` formats, `html` renders the
page. Assets call them and publish what they return.
"""
