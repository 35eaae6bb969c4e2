"""BigQuery: a month loaded into its partition by one load job."""
