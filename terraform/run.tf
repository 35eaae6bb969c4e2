# Five workloads: the webserver behind IAP, one daemon, the job whose executions are Dagster's runs, and the jobs of a
# release, which migrate Dagster's storage and load the code location in a new image. Terraform manages identity, network, secrets and size. A release
# (deploy/gcp/release) sets image and command, and gcloud writes a revision's name, its own annotations and labels, and the
# launch stage; changes of all these are ignored here. With a revision's name in the template every later apply would fail
# or remove it (terraform-provider-google issues 13410 and 17218). Until the first release Google's
# sample images run, so that the first apply can finish before the registry has an image.
locals {
  placeholder = {
    service     = "us-docker.pkg.dev/cloudrun/container/hello"
    worker_pool = "us-docker.pkg.dev/cloudrun/container/worker-pool"
    job         = "us-docker.pkg.dev/cloudrun/container/job"
  }

  # The launcher passes a run its instance by reference: DAGSTER_HOME and every variable named in deploy/gcp/dagster.yaml
  # must be the same everywhere.
  env = {
    DAGSTER_HOME           = "/opt/taxi/deploy/gcp"
    DAGSTER_GCP_PROJECT    = var.project_id
    DAGSTER_GCP_REGION     = var.region
    DAGSTER_MAX_RUNS       = tostring(local.max_runs)
    DAGSTER_LOGS_BUCKET    = google_storage_bucket.this["logs"].name
    TAXI_PROFILE           = "gcp"
    TAXI_HOME              = "/tmp/taxi"
    TAXI_LAKE              = local.lake_path
    TAXI_KINDS             = join(",", sort(var.kinds))
    TAXI_BUCKET            = "gs://${google_storage_bucket.this["data"].name}"
    TAXI_BIGQUERY_PROJECT  = var.project_id
    TAXI_BIGQUERY_LOCATION = var.region
    TAXI_DATASET           = google_bigquery_dataset.this.dataset_id
  }
  lake_path = "/mnt/lake"

  # role => environment of its container: the above, and the URLs it may read. Secrets are referenced by version number, not
  # `latest`, so that a new password creates a new revision everywhere.
  secret_names = { dagster = "DAGSTER_POSTGRES_URL", trips = "TAXI_POSTGRES_URL" }
  environment = { for role, databases in local.secrets : role => concat(
    [for name, value in local.env : { name = name, value = value, secret = null }],
    [for database in databases : { name = local.secret_names[database], value = null, secret = {
      secret_id = google_secret_manager_secret.url[database].secret_id
      version   = google_secret_manager_secret_version.url[database].version
    } }],
  ) }

  # The alerts sensor runs in the daemon: it links to the UI, and reads the addresses that it reports to from secrets that
  # exist already.
  alert_secrets = { for name, id in { TAXI_ALERT_WEBHOOK = var.alert_webhook_secret, TAXI_SMTP_URL = var.alert_smtp_secret } : name => id if id != null }
  daemon_environment = concat(
    local.environment.daemon,
    [{ name = "TAXI_UI_URL", value = google_cloud_run_v2_service.webserver.uri, secret = null }],
    [for email in var.alert_smtp_secret[*] : { name = "TAXI_ALERT_EMAIL", value = var.alert_email, secret = null }],
    [for name, id in local.alert_secrets : { name = name, value = null, secret = { secret_id = id, version = "latest" } }],
  )

  jobs = {
    run      = { role = "run", cpu = var.run_resources.cpu, memory = var.run_resources.memory, timeout = "3600s", lake = true }
    migrate  = { role = "migrate", cpu = "1", memory = "1Gi", timeout = "900s", lake = false }
    validate = { role = "webserver", cpu = "1", memory = "2Gi", timeout = "900s", lake = false } # it loads what the UI loads
  }
}

# Dagster's UI. It can be reached only through IAP, which requires a Google login of one of var.viewers.
resource "google_cloud_run_v2_service" "webserver" {
  provider            = google-beta
  name                = "taxi-webserver"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL" # IAP admits var.viewers only
  launch_stage        = "BETA"                # for iap_enabled in 6.50; later versions accept it too
  iap_enabled         = true
  deletion_protection = var.deletion_protection
  depends_on          = [google_secret_manager_secret_iam_member.role]

  template {
    service_account = google_service_account.role["webserver"].email
    timeout         = "3600s" # the UI follows runs over a websocket

    scaling {
      min_instance_count = 0
      max_instance_count = 1
    }

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = google_compute_network.this.id
        subnetwork = google_compute_subnetwork.this.id
      }
    }

    containers {
      image = local.placeholder.service

      ports {
        container_port = 3000
      }

      resources {
        limits = { cpu = "1", memory = "2Gi" }
        # The code location is a child process that exits without a heartbeat, which an instance without CPU between requests
        # could not send. The instance still stops some minutes after the last request.
        cpu_idle          = false
        startup_cpu_boost = true
      }

      # Until it has started, a container may have no route to the database for a minute or two (deploy/gcp/when-connected).
      startup_probe {
        failure_threshold = 24
        period_seconds    = 10
        timeout_seconds   = 5
        http_get {
          path = "/server_info"
        }
      }

      liveness_probe {
        failure_threshold = 3
        period_seconds    = 30
        timeout_seconds   = 10
        http_get {
          path = "/server_info"
        }
      }

      dynamic "env" {
        for_each = local.environment.webserver
        content {
          name  = env.value.name
          value = env.value.value
          dynamic "value_source" {
            for_each = env.value.secret[*]
            content {
              secret_key_ref {
                secret  = value_source.value.secret_id
                version = value_source.value.version
              }
            }
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [
      template[0].containers[0].image, template[0].containers[0].command, template[0].containers[0].args,
      template[0].containers[0].name, template[0].revision, template[0].labels, template[0].annotations,
      annotations, launch_stage, client, client_version,
    ]
  }
}

# The service account with which IAP calls the service: the only one with permission.
resource "google_project_service_identity" "iap" {
  provider   = google-beta
  service    = "iap.googleapis.com"
  depends_on = [google_project_service.this]
}

resource "google_cloud_run_v2_service_iam_member" "iap" {
  name     = google_cloud_run_v2_service.webserver.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_project_service_identity.iap.member
}

resource "google_iap_web_cloud_run_service_iam_member" "viewer" {
  for_each               = var.viewers
  cloud_run_service_name = google_cloud_run_v2_service.webserver.name
  location               = var.region
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.key
}

# Exactly one: two daemons would run every schedule twice.
resource "google_cloud_run_v2_worker_pool" "daemon" {
  name                = "taxi-daemon"
  location            = var.region
  deletion_protection = var.deletion_protection
  depends_on          = [google_secret_manager_secret_iam_member.role, google_secret_manager_secret_iam_member.alert]

  scaling {
    manual_instance_count = 1
  }

  template {
    service_account = google_service_account.role["daemon"].email

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = google_compute_network.this.id
        subnetwork = google_compute_subnetwork.this.id
      }
    }

    containers {
      image = local.placeholder.worker_pool

      resources {
        limits = { cpu = "1", memory = "2Gi" }
      }

      dynamic "env" {
        for_each = local.daemon_environment
        content {
          name  = env.value.name
          value = env.value.value
          dynamic "value_source" {
            for_each = env.value.secret[*]
            content {
              secret_key_ref {
                secret  = value_source.value.secret_id
                version = value_source.value.version
              }
            }
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [
      template[0].containers[0].image, template[0].containers[0].command, template[0].containers[0].args,
      template[0].containers[0].name, template[0].revision, template[0].labels, template[0].annotations,
      annotations, launch_stage, client, client_version,
    ]
  }
}

# Executions are started one by one with their own arguments and never retried by Cloud Run: Dagster retries, and a retry
# by Cloud Run would be a run unknown to Dagster.
resource "google_cloud_run_v2_job" "this" {
  provider            = google-beta # mount_options
  for_each            = local.jobs
  name                = "taxi-${each.key}"
  location            = var.region
  deletion_protection = var.deletion_protection
  depends_on          = [google_secret_manager_secret_iam_member.role, google_storage_bucket_iam_member.role]

  template {
    task_count = 1

    template {
      service_account       = google_service_account.role[each.value.role].email
      max_retries           = 0
      timeout               = each.value.timeout
      execution_environment = "EXECUTION_ENVIRONMENT_GEN2"

      vpc_access {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = google_compute_network.this.id
          subnetwork = google_compute_subnetwork.this.id
        }
      }

      dynamic "volumes" {
        for_each = each.value.lake ? [1] : []
        content {
          name = "lake"
          gcs {
            bucket        = google_storage_bucket.this["lake"].name
            mount_options = ["dir-mode=777", "file-mode=666"] # the image's user is not root, and the only user
          }
        }
      }

      containers {
        image = local.placeholder.job

        resources {
          limits = { cpu = each.value.cpu, memory = each.value.memory }
        }

        dynamic "volume_mounts" {
          for_each = each.value.lake ? [1] : []
          content {
            name       = "lake"
            mount_path = local.lake_path
          }
        }

        dynamic "env" {
          for_each = local.environment[each.value.role]
          content {
            name  = env.value.name
            value = env.value.value
            dynamic "value_source" {
              for_each = env.value.secret[*]
              content {
                secret_key_ref {
                  secret  = value_source.value.secret_id
                  version = value_source.value.version
                }
              }
            }
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [
      template[0].template[0].containers[0].image, template[0].template[0].containers[0].command,
      template[0].template[0].containers[0].args, template[0].template[0].containers[0].name, template[0].labels,
      template[0].annotations, annotations, launch_stage, client, client_version,
    ]
  }
}
