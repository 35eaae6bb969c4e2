# Permissions of GitHub's workflows, without a key: Workload Identity Federation trusts GitHub's signature on a run's token,
# which contains the repository, branch and event.
#   plan    a pull request of this repository: reads the state (which holds no secret) and nothing else
#   deploy  a push to the branch, or a person starting the workflow there: pushes and deploys images
locals {
  ci_count = var.github == null ? 0 : 1
  ci_roles = var.github == null ? {} : {
    plan   = "Plans pull requests against the state."
    deploy = "Pushes images and releases them."
  }
}

resource "google_iam_workload_identity_pool" "github" {
  count                     = local.ci_count
  workload_identity_pool_id = "taxi-github"
  display_name              = "GitHub Actions"
  depends_on                = [google_project_service.this]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count                              = local.ci_count
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "taxi-github"
  display_name                       = "GitHub Actions"

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }

  # pull_request_target also has the branch's ref but may run code of a fork, so the event is checked too.
  attribute_mapping = {
    "google.subject" = "assertion.sub"
    "attribute.role" = "assertion.ref == 'refs/heads/${var.github.branch}' && assertion.event_name in ['push', 'workflow_dispatch'] ? 'deploy' : (assertion.event_name == 'pull_request' ? 'plan' : 'none')"
  }
  attribute_condition = "assertion.repository == '${var.github.repository}' && assertion.repository_id == '${var.github.repository_id}' && (assertion.ref == 'refs/heads/${var.github.branch}' || assertion.event_name == 'pull_request')"
}

resource "google_service_account" "ci" {
  for_each     = local.ci_roles
  account_id   = "taxi-ci-${each.key}"
  display_name = "taxi_assets CI ${each.key}"
  description  = each.value
  depends_on   = [google_project_service.this]
}

resource "google_service_account_iam_member" "ci" {
  for_each           = google_service_account.ci
  service_account_id = each.value.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/attribute.role/${each.key}"
}

resource "google_storage_bucket_iam_member" "ci_plan" {
  count  = local.ci_count
  bucket = var.github.state_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.ci["plan"].member
}

# The budget is filtered by the project's number, the only value that a plan reads from the API.
resource "google_project_iam_member" "ci_plan" {
  count   = local.ci_count
  project = var.project_id
  role    = "roles/browser"
  member  = google_service_account.ci["plan"].member
}

resource "google_artifact_registry_repository_iam_member" "ci_deploy" {
  count      = local.ci_count
  repository = google_artifact_registry_repository.this.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.ci["deploy"].member
}

# On the project, which contains nothing else: gcloud polls operations during a release, and these belong to the project.
# The role cannot change the IAM policy of a service.
resource "google_project_iam_member" "ci_deploy" {
  count   = local.ci_count
  project = var.project_id
  role    = "roles/run.developer"
  member  = google_service_account.ci["deploy"].member
}

# Updating a service requires permission to act as its service account.
resource "google_service_account_iam_member" "ci_deploy" {
  for_each           = var.github == null ? {} : google_service_account.role
  service_account_id = each.value.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.ci["deploy"].member
}
