# The image repository. Deployments use digests; tags are for people. (Immutable tags are off: the cleanup policy below could
# not delete tagged images.)
resource "google_artifact_registry_repository" "this" {
  repository_id = "taxi"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of taxi_assets, deployed by digest."
  depends_on    = [google_project_service.this]

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  # KEEP takes precedence over DELETE: the last ten images are kept for rollbacks, whatever their age.
  cleanup_policies {
    id     = "keep-ten"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s" # 30 days
    }
  }
}
