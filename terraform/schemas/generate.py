"""Writes what defines the BigQuery tables, from taxi_assets.datasets.schema: columns, a file for each dataset, and tables.json.

    python terraform/schemas/generate.py

Needs the package's environment. A test holds the files against the schema, so run it whenever that test says so.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.sinks.bigquery.table import SQL_TYPES


def table_schema(kind: TaxiKind) -> list[dict[str, str]]:
    """The columns as BigQuery's API has them: name, type, mode and description."""
    return [
        {"name": c.name, "type": SQL_TYPES[c.type], "mode": "NULLABLE", "description": c.description}
        for c in kind.columns
    ]


def tables() -> dict[str, dict[str, object]]:
    """Name, time column, clustering and description of each table, by dataset."""
    return {
        name: {
            "name": kind.table.name,
            "time": kind.table.time,
            "clustering": list(kind.table.clustering),
            "description": kind.table.description,
        }
        for name, kind in KINDS.items()
    }


if __name__ == "__main__":
    Path(__file__).with_name("tables.json").write_text(json.dumps(tables(), indent=2) + "\n")
    for kind in KINDS.values():
        file = Path(__file__).with_name(f"{kind.name}.json")
        file.write_text(json.dumps(table_schema(kind), indent=2) + "\n")
        print(file)
