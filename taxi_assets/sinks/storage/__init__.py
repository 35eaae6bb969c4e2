"""Buckets: a directory, or Google Cloud Storage."""
