"""What is published: the columns, eras, codes and cleaning rules of each dataset. No Dagster, no input or output."""
