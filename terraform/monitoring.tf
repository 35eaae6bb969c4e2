# Alerts sent by email. Every alert says what to do; none fires in a healthy deployment.
resource "google_monitoring_notification_channel" "email" {
  display_name = "taxi_assets alerts"
  type         = "email"
  labels       = { email_address = var.alert_email }
  depends_on   = [google_project_service.this]
}

locals {
  # The container of a run that fails in Dagster exits with 0, which Cloud Run's metrics count as success; only the log shows
  # the failure.
  log_alerts = {
    run_failed = {
      title  = "A run failed"
      filter = "resource.type=\"cloud_run_job\" resource.labels.job_name=\"${google_cloud_run_v2_job.this["run"].name}\" textPayload:\"RUN_FAILURE\""
      advice = "Open the failed run in the Dagster UI (Runs, filter by failure): its last error says what to do. The previous load of the month is still in place."
    }
    run_lost = {
      title  = "A run's container died"
      filter = "resource.type=\"cloud_run_worker_pool\" resource.labels.worker_pool_name=\"${google_cloud_run_v2_worker_pool.daemon.name}\" textPayload:\"Detected run worker status\""
      advice = "The container exited without reporting to Dagster, usually because it ran out of memory: check the execution's log in Cloud Run, and raise run_resources.memory if so. Materialize the month again; nothing partial is visible."
    }
    run_not_started = {
      title  = "A run could not be launched, did not start, or took too long"
      filter = "resource.type=\"cloud_run_worker_pool\" resource.labels.worker_pool_name=\"${google_cloud_run_v2_worker_pool.daemon.name}\" textPayload=~\"Caught an error dequeuing run|Run timed out due to taking longer than|has exceeded maximum runtime of\""
      advice = "Such a run has no container whose log could show the failure. Open the run in the Dagster UI; then gcloud run jobs executions list --job=taxi-run. Usual causes: a quota of Cloud Run, the job's image, or the database out of reach."
    }
    deadline = {
      title  = "The newest month is late"
      filter = "resource.type=\"cloud_run_job\" resource.labels.job_name=\"${google_cloud_run_v2_job.this["run"].name}\" textPayload:\"newest_published_month_is_loaded\" textPayload:\"did not pass\" textPayload:\"is late\""
      advice = "A published month is not in every sink after TAXI_DEADLINE_DAYS: see what reconcile_yellow logged, and the failed runs of the month."
    }
    memory = {
      title  = "The daemon or the webserver ran out of memory"
      filter = "(resource.type=\"cloud_run_worker_pool\" OR resource.type=\"cloud_run_revision\") textPayload:\"Memory limit of\" textPayload:\"exceeded\""
      advice = "Cloud Run has restarted the container. If it happens again, raise its memory in terraform/run.tf."
    }
    container_exit = {
      title = "The daemon or the webserver stopped"
      # exit(0) is how the webserver ends when nobody uses it
      filter = "(resource.type=\"cloud_run_worker_pool\" OR resource.type=\"cloud_run_revision\") textPayload:\"Container called exit\" NOT textPayload:\"exit(0)\""
      advice = "Read the log lines before it in Cloud Logging. After a release, roll back: run deploy/gcp/release with the previous digest."
    }
  }
}

resource "google_monitoring_alert_policy" "log" {
  for_each              = local.log_alerts
  display_name          = "taxi_assets: ${each.value.title}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = each.value.title
    condition_matched_log {
      filter = each.value.filter
    }
  }

  alert_strategy {
    auto_close = "86400s"
    notification_rate_limit {
      period = "3600s" # a failing backfill sends one email an hour, not two hundred
    }
  }

  documentation {
    content = each.value.advice
  }
}

# Uptime check from outside: IAP must respond, and must refuse. It does not reach the container: the check has no login, and
# would keep an instance running. Whether the container works is shown by its probes and by the alerts above. IAP answers a script's request (this header) with 401
# and a browser's with a redirect; 200 would mean that the UI is open to the world, 5xx that IAP or the service is gone.
resource "google_monitoring_uptime_check_config" "door" {
  display_name = "taxi_assets: IAP requires a login"
  period       = "300s"
  timeout      = "30s"
  depends_on   = [google_project_service.this]

  http_check {
    path         = "/server_info"
    port         = 443
    use_ssl      = true
    validate_ssl = true
    headers      = { "X-Requested-With" = "XMLHttpRequest" }

    dynamic "accepted_response_status_codes" {
      for_each = [302, 401]
      content {
        status_value = accepted_response_status_codes.value
      }
    }
  }

  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      host       = trimprefix(google_cloud_run_v2_service.webserver.uri, "https://")
    }
  }
}

resource "google_monitoring_alert_policy" "door" {
  display_name          = "taxi_assets: IAP does not respond, or admits everyone"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "uptime check fails from two places"
    condition_threshold {
      filter          = "resource.type=\"uptime_url\" metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" metric.labels.check_id=\"${google_monitoring_uptime_check_config.door.uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "300s"
      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
    }
  }

  documentation {
    content = "Open the UI in a browser without a login. If it shows Dagster: enable IAP again (terraform apply). If it shows an error: gcloud run services describe taxi-webserver."
  }
}

resource "google_monitoring_alert_policy" "daemon" {
  display_name          = "taxi_assets: no daemon"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "no instance for ten minutes"
    condition_absent {
      filter   = "resource.type=\"cloud_run_worker_pool\" resource.labels.worker_pool_name=\"${google_cloud_run_v2_worker_pool.daemon.name}\" metric.type=\"run.googleapis.com/container/instance_count\""
      duration = "600s"
      # One series a worker pool: each revision has its own, and those of the old revision end with every release.
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_MAX"
        cross_series_reducer = "REDUCE_MAX"
        group_by_fields      = ["resource.label.worker_pool_name"]
      }
    }
  }

  documentation {
    content = "Without the daemon no schedule runs and queued runs wait. gcloud run worker-pools describe taxi-daemon shows why it does not start."
  }
}

resource "google_monitoring_alert_policy" "disk" {
  display_name          = "taxi_assets: the database's disk is close to its maximum size"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "used bytes above 85 % of database.disk_max_gb"
    condition_threshold {
      filter          = "resource.type=\"cloudsql_database\" resource.labels.database_id=\"${var.project_id}:${google_sql_database_instance.this.name}\" metric.type=\"cloudsql.googleapis.com/database/disk/bytes_used\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0.85 * var.database.disk_max_gb * 1024 * 1024 * 1024
      duration        = "600s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MEAN"
      }
    }
  }

  documentation {
    content = "Raise database.disk_max_gb and apply, or delete unused months from Postgres."
  }
}

resource "google_billing_budget" "this" {
  provider        = google.billing
  billing_account = var.billing_account
  display_name    = "taxi_assets in ${var.project_id}"
  depends_on      = [google_project_service.this]

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.email.id]
  }
}
