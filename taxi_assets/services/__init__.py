"""Things outside the process that the sinks talk to: the embedded Postgres, buckets."""
