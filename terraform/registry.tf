# The image's home. Deployed is what a digest names; tags only help people find it. (Immutable tags are off: they would keep
# the clean-up below from deleting anything that has a tag.)
resource "google_artifact_registry_repository" "this" {
  repository_id = "taxi"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of taxi_assets, deployed by digest."
  depends_on    = [google_project_service.this]

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  # KEEP wins over DELETE: the last ten stay to roll back to, whatever their age.
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
