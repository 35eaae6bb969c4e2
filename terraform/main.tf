# Names, labels and the APIs. One deployment per project: names are fixed, because deploy/gcp/ uses them too.
locals {
  labels = { app = "taxi-assets" }

  apis = toset([
    "artifactregistry", "bigquery", "billingbudgets", "cloudresourcemanager", "compute", "iam", "iamcredentials", "iap",
    "logging", "monitoring", "run", "secretmanager", "servicenetworking", "sqladmin", "storage", "sts",
  ])
}

resource "google_project_service" "this" {
  for_each           = local.apis
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false # others may use the API
}

data "google_project" "this" {
  project_id = var.project_id
  depends_on = [google_project_service.this]
}
