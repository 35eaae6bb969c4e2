output "url" {
  description = "Dagster's UI, for var.viewers."
  value       = google_cloud_run_v2_service.webserver.uri
}

output "image_repository" {
  description = "Registry to push images to."
  value       = local.image
}

output "database_instance" {
  description = "Name of the Cloud SQL instance, for backups, exports and restores."
  value       = google_sql_database_instance.this.name
}

output "buckets" {
  description = "Names of the buckets."
  value       = { for key, bucket in google_storage_bucket.this : key => bucket.name }
}

output "next_step" {
  description = "Next steps."
  value       = var.github == null ? local.release_by_hand : local.release_by_ci
}

locals {
  image = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.this.repository_id}/taxi-assets"

  release_by_hand = <<-TEXT
    The shape is there; Google's samples run in it. Release an image, from the repository's folder:

      gcloud auth configure-docker ${var.region}-docker.pkg.dev
      docker build --platform linux/amd64 -f deploy/Dockerfile -t ${local.image}:first . && docker push ${local.image}:first
      CLOUDSDK_CORE_PROJECT=${var.project_id} CLOUDSDK_RUN_REGION=${var.region} \
        deploy/gcp/release "$(docker inspect --format '{{index .RepoDigests 0}}' ${local.image}:first)"

    then open ${google_cloud_run_v2_service.webserver.uri}
  TEXT

  release_by_ci = var.github == null ? "" : <<-TEXT
    The shape is there; Google's samples run in it. Tell the repository where to deploy (none of this is secret):

      gh variable set -R ${var.github.repository} GCP_PROJECT --body ${var.project_id}
      gh variable set -R ${var.github.repository} GCP_REGION --body ${var.region}
      gh variable set -R ${var.github.repository} GCP_IDENTITY_PROVIDER --body ${google_iam_workload_identity_pool_provider.github[0].name}
      gh variable set -R ${var.github.repository} GCP_STATE_BUCKET --body ${var.github.state_bucket}
      gh variable set -R ${var.github.repository} TERRAFORM_TFVARS < terraform.tfvars

    then push to ${var.github.branch}, or start the workflow there, and open ${google_cloud_run_v2_service.webserver.uri}
  TEXT
}
