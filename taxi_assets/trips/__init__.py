"""What a taxi trip is: schemas, published formats, cleaning, sources, files. No Dagster in here."""
