# The warehouse: one table per dataset, one partition per month. Runs create missing tables; those created here are
# protected, and permissions on the dataset exist before the first run. schemas/generate.py writes schemas/*.json.
locals {
  schemas = { for kind in var.kinds : kind => file("${path.module}/schemas/${kind}.json") }
  tables  = jsondecode(file("${path.module}/schemas/tables.json"))
}

resource "google_bigquery_dataset" "this" {
  dataset_id                 = var.dataset
  location                   = var.region
  description                = "New York's taxi trips, month by month since 2009."
  delete_contents_on_destroy = !var.deletion_protection # loads make tables that Terraform does not know
  max_time_travel_hours      = "168"                    # the previous version of a month can be queried for seven days
  depends_on                 = [google_project_service.this]
}

resource "google_bigquery_table" "trips" {
  for_each            = local.schemas
  dataset_id          = google_bigquery_dataset.this.dataset_id
  table_id            = local.tables[each.key].name
  description         = local.tables[each.key].description
  labels              = { kind = each.key }
  schema              = each.value
  clustering          = local.tables[each.key].clustering
  deletion_protection = var.deletion_protection

  time_partitioning {
    type  = "MONTH"
    field = local.tables[each.key].time
  }

  # Loads add published columns that are new. The provider would drop them again, in place and with their values
  # (ALTER TABLE DROP COLUMN); deletion_protection does not prevent that. So the schema is of the first apply only.
  lifecycle {
    ignore_changes = [schema]
  }
}
