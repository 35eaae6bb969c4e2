# The warehouse: a table a kind of taxi, a partition a month. Runs would make what is missing; made here, the tables are
# protected, and the dataset's rights are given before the first run. schemas/*.json is written by schemas/generate.py.
locals {
  schemas = { for kind in var.kinds : kind => file("${path.module}/schemas/${kind}.json") }
}

resource "google_bigquery_dataset" "this" {
  dataset_id                 = var.dataset
  location                   = var.region
  description                = "New York's taxi trips, month by month since 2009."
  delete_contents_on_destroy = false
  max_time_travel_hours      = "168" # a replaced month can be queried as it was for seven days
  depends_on                 = [google_project_service.this]
}

resource "google_bigquery_table" "trips" {
  for_each            = local.schemas
  dataset_id          = google_bigquery_dataset.this.dataset_id
  table_id            = "${each.key}_cab_data"
  description         = "New York's ${each.key} taxi trips, one partition a month; published by the TLC."
  labels              = { kind = each.key }
  schema              = each.value
  clustering          = ["pulocationid", "vendorid"]
  deletion_protection = var.deletion_protection

  time_partitioning {
    type  = "MONTH"
    field = one([for column in jsondecode(each.value) : column.name if endswith(column.name, "_pickup_datetime")])
  }
}
