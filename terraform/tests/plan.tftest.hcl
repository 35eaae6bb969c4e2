# Plans with every provider mocked: what a default deployment, one with CI, and one that may be torn down consist of.
# Run with: terraform init -backend=false && terraform test

mock_provider "google" {}
mock_provider "google-beta" {}
mock_provider "google" {
  alias = "billing"
}
mock_provider "random" {}

variables {
  project_id        = "taxi-test-project"
  region            = "us-central1"
  billing_account   = "0A1B2C-3D4E5F-678901"
  alert_email       = "data@example.com"
  viewers           = ["group:data@example.com"]
  database_password = "0123456789abcdef0123456789abcdef"
}

run "default" {
  command = plan

  assert {
    condition     = local.env.DAGSTER_MAX_RUNS == "20"
    error_message = "The default machine serves 100 connections."
  }

  assert {
    condition     = length(distinct([for database in local.databases : google_sql_user.this[database].name])) == 2 && length(distinct([nonsensitive(local.passwords["dagster"]), nonsensitive(local.passwords["trips"]), var.database_password])) == 3
    error_message = "Each database must have a user and a password of its own, and neither may be the variable, from which the other follows."
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.daemon.scaling[0].manual_instance_count == 1
    error_message = "There must be exactly one daemon."
  }
  assert {
    condition     = alltrue([for job in google_cloud_run_v2_job.this : job.template[0].template[0].max_retries == 0])
    error_message = "Cloud Run must not retry a run behind Dagster's back."
  }
  assert {
    condition     = google_cloud_run_v2_service.webserver.iap_enabled
    error_message = "The UI must be behind IAP."
  }
  assert {
    condition     = keys(google_bigquery_table.trips) == ["yellow"] && google_bigquery_table.trips["yellow"].time_partitioning[0].field == "tpep_pickup_datetime"
    error_message = "The warehouse must have the yellow table, partitioned by its pickup."
  }
  assert {
    condition     = google_sql_database_instance.this.deletion_protection && google_sql_database_instance.this.settings[0].deletion_protection_enabled && google_bigquery_table.trips["yellow"].deletion_protection && !google_storage_bucket.this["data"].force_destroy
    error_message = "What holds data must be protected unless asked otherwise."
  }
  assert {
    condition     = length(google_service_account.ci) == 0 && length(google_iam_workload_identity_pool.github) == 0
    error_message = "Without a repository nothing may be federated."
  }
  assert {
    condition     = google_storage_bucket.this["lake"].hierarchical_namespace[0].enabled && !google_storage_bucket.this["lake"].versioning[0].enabled
    error_message = "The lake needs atomic renames, which exclude versions."
  }
  assert {
    condition     = [for rule in google_storage_bucket.this["lake"].lifecycle_rule : tolist(one(rule.condition).matches_prefix) if one(rule.action).type == "Delete"] == [tolist(["yellow_raw_trips/"])]
    error_message = "Of the lake only raw months may expire."
  }
}

run "urls" {
  command = plan
  override_resource {
    target          = google_sql_database_instance.this
    override_during = plan
    values          = { private_ip_address = "10.1.0.3" }
  }
  assert {
    condition     = nonsensitive(local.urls["trips"]) == "postgresql://trips:${nonsensitive(sha256("trips ${var.database_password}"))}@10.1.0.3:5432/trips?sslmode=require"
    error_message = "The trips' URL must have the user, the password and the database of the trips."
  }
  assert {
    condition     = nonsensitive(local.urls["dagster"]) == "postgresql+psycopg2://taxi:${nonsensitive(sha256("dagster ${var.database_password}"))}@10.1.0.3:5432/dagster?sslmode=require"
    error_message = "The storage's URL must have the user, the password and the database of Dagster."
  }
}

run "smallest_machine" {
  command = plan
  variables {
    database = { tier = "db-g1-small" }
  }
  assert {
    condition     = local.env.DAGSTER_MAX_RUNS == "7"
    error_message = "A machine that serves 50 connections takes seven runs of four, beside 20 for everything else."
  }
}

run "every_dataset" {
  command = plan
  variables {
    kinds = ["green", "yellow", "fhv", "fhvhv"]
  }
  assert {
    condition     = google_bigquery_table.trips["fhvhv"].table_id == "fhvhv_trips" && google_bigquery_table.trips["fhvhv"].time_partitioning[0].field == "pickup_datetime"
    error_message = "High-volume trips have a table of their own, partitioned by their pickup."
  }
  assert {
    condition     = google_bigquery_table.trips["green"].time_partitioning[0].field == "lpep_pickup_datetime"
    error_message = "Green trips are partitioned by their own pickup."
  }
  assert {
    condition     = local.env.TAXI_KINDS == "fhv,fhvhv,green,yellow"
    error_message = "The containers must have every dataset in TAXI_KINDS."
  }
}

run "with_ci" {
  command = plan
  variables {
    github = { repository = "my-org/taxi_assets", repository_id = "123456789", state_bucket = "my-tfstate" }
  }
  assert {
    condition     = strcontains(google_iam_workload_identity_pool_provider.github[0].attribute_condition, "assertion.repository_id == '123456789'")
    error_message = "Only this repository may federate."
  }
  assert {
    condition     = strcontains(google_iam_workload_identity_pool_provider.github[0].attribute_mapping["attribute.role"], "refs/heads/main")
    error_message = "Only the branch may deploy."
  }
  assert {
    condition     = google_project_iam_member.ci_deploy[0].role == "roles/run.developer"
    error_message = "CI may release images, and not change who may call them."
  }
}

run "may_be_torn_down" {
  command = plan
  variables {
    deletion_protection = false
  }
  assert {
    condition     = google_bigquery_dataset.this.delete_contents_on_destroy
    error_message = "Loads make tables that Terraform does not know, and destroy would stop at the dataset."
  }
  assert {
    condition     = alltrue([for user in google_sql_user.this : user.deletion_policy == "ABANDON"]) && google_service_networking_connection.sql.deletion_policy == "ABANDON" && alltrue([for database in google_sql_database.this : database.deletion_policy == "ABANDON"])
    error_message = "A role that owns tables, a database in use and the peering cannot be deleted before the instance."
  }
  assert {
    condition = !google_sql_database_instance.this.deletion_protection && !google_bigquery_table.trips["yellow"].deletion_protection && google_storage_bucket.this["data"].force_destroy && !google_cloud_run_v2_service.webserver.deletion_protection && !google_cloud_run_v2_worker_pool.daemon.deletion_protection && alltrue(
      [for job in google_cloud_run_v2_job.this : !job.deletion_protection]
    ) && alltrue([for secret in google_secret_manager_secret.url : !secret.deletion_protection])
    error_message = "deletion_protection = false must reach everything that is protected, or destroy stops half-way."
  }
}
