# Names, labels and the APIs. One deployment a project: names are fixed, so that deploy/gcp/ can name them too.
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
  disable_on_destroy = false # other things in the project may have come to use it
}

data "google_project" "this" {
  project_id = var.project_id
  depends_on = [google_project_service.this]
}
