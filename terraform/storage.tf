# Three buckets with different retention. Names contain the project id, because bucket names are global.
#   data  the published objects: every version of the last 30 days is kept
#   lake  raw, clean and rejected months between assets; a hierarchical namespace, so that the rename by which a month is
#         published is one atomic operation (which rules out versions). Only raw months expire: a sink that lacks a month
#         is loaded from the clean one, the month's report needs the rejected rows, and both may be of a version that is no
#         longer published. Dimensions are in this bucket, too
#   logs  compute logs of steps, shown in the UI
locals {
  buckets = {
    data = { versions = true, hierarchical = false, delete_after_days = null, only = [] }
    lake = { versions = false, hierarchical = true, delete_after_days = var.lake_days, only = [for kind in sort(var.kinds) : "${kind}_raw_trips/"] }
    logs = { versions = false, hierarchical = false, delete_after_days = 90, only = [] }
  }
}

resource "google_storage_bucket" "this" {
  for_each                    = local.buckets
  name                        = "${var.project_id}-taxi-${each.key}"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection
  depends_on                  = [google_project_service.this]

  versioning {
    enabled = each.value.versions
  }

  dynamic "hierarchical_namespace" {
    for_each = each.value.hierarchical ? [1] : []
    content {
      enabled = true
    }
  }

  # Soft delete for a week, only for data that cannot be materialized again.
  soft_delete_policy {
    retention_duration_seconds = each.value.versions ? 7 * 24 * 3600 : 0
  }

  dynamic "lifecycle_rule" {
    for_each = each.value.versions ? [1] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = 30
      }
    }
  }

  # Journals are deleted as soon as a month of day folders is in place, and are as large as the month.
  dynamic "lifecycle_rule" {
    for_each = each.value.versions ? [1] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = 1
        matches_prefix             = ["_journal/"]
      }
    }
  }

  dynamic "lifecycle_rule" {
    for_each = each.value.delete_after_days[*]
    content {
      action {
        type = "Delete"
      }
      condition {
        age            = lifecycle_rule.value
        matches_prefix = each.value.only
      }
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }
}
