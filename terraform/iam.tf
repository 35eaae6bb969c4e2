# One service account per role, each with the minimum permissions. All grants are in this file, except those of people
# (run.tf) and CI (ci.tf).
locals {
  roles = {
    webserver = "The UI: queues runs for the daemon, cancels them, shows their logs."
    daemon    = "Schedules, sensors and the queue: starts runs as Cloud Run executions and watches them."
    run       = "A run: loads months into the database, the buckets and BigQuery."
    migrate   = "Brings Dagster's storage to the schema of a new version."
  }

  # role => databases whose URL it may read. All but migrate load the code location, whose settings require both.
  secrets = {
    webserver = ["dagster", "trips"]
    daemon    = ["dagster", "trips"]
    run       = ["dagster", "trips"]
    migrate   = ["dagster"]
  }

  # role => bucket => storage roles. Access to a step's log first checks that the bucket exists, which no object role
  # allows: hence legacyBucketReader.
  bucket_roles = {
    webserver = { logs = ["legacyBucketReader", "objectViewer"] }
    daemon    = { logs = ["legacyBucketReader", "objectUser"] } # logs of schedule and sensor ticks
    run       = { logs = ["legacyBucketReader", "objectUser"], lake = ["objectUser"], data = ["objectUser"] }
  }
}

resource "google_service_account" "role" {
  for_each     = local.roles
  account_id   = "taxi-${each.key}"
  display_name = "taxi_assets ${each.key}"
  description  = each.value
  depends_on   = [google_project_service.this]
}

resource "google_secret_manager_secret_iam_member" "role" {
  for_each = merge([for role, databases in local.secrets : {
    for database in databases : "${role}-${database}" => { role = role, database = database }
  }]...)
  secret_id = google_secret_manager_secret.url[each.value.database].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.role[each.value.role].member
}

# Secrets that were created by hand.
resource "google_secret_manager_secret_iam_member" "alert" {
  for_each  = local.alert_secrets
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.role["daemon"].member
}

resource "google_storage_bucket_iam_member" "role" {
  for_each = merge(flatten([for role, buckets in local.bucket_roles : [for bucket, grants in buckets : {
    for grant in grants : "${role}-${bucket}-${grant}" => { role = role, bucket = bucket, grant = grant }
  }]])...)
  bucket = google_storage_bucket.this[each.value.bucket].name
  role   = "roles/storage.${each.value.grant}"
  member = google_service_account.role[each.value.role].member
}

resource "google_bigquery_dataset_iam_member" "run" {
  dataset_id = google_bigquery_dataset.this.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.role["run"].member
}

# Jobs belong to a project, not to a dataset; the dataset's permissions decide what a job can read.
resource "google_project_iam_member" "run_bigquery" {
  project = var.project_id
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.role["run"].member
}

# Executions are children of a job that the launcher addresses by project (dagster-contrib-gcp), so these are granted on
# the project. The predefined roles that hold them can also delete jobs or change what they run.
locals {
  execution_permissions = {
    daemon    = ["run.jobs.run", "run.jobs.runWithOverrides", "run.executions.get", "run.executions.cancel"]
    webserver = ["run.executions.get", "run.executions.cancel"]
  }
}

resource "google_project_iam_custom_role" "executions" {
  for_each    = local.execution_permissions
  role_id     = "taxi${title(each.key)}Executions"
  title       = "taxi_assets ${each.key}: Cloud Run executions"
  permissions = each.value
  depends_on  = [google_project_service.this]
}

resource "google_project_iam_member" "executions" {
  for_each = google_project_iam_custom_role.executions
  project  = var.project_id
  role     = each.value.id
  member   = google_service_account.role[each.key].member
}
