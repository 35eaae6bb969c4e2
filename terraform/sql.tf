# One Postgres with two databases: Dagster's own storage and the trips. Private address only, TLS only, daily backups and
# point-in-time recovery.
resource "random_id" "sql" {
  byte_length = 2 # the name of a deleted instance stays reserved for days; the suffix allows creating the deployment again
}

resource "google_sql_database_instance" "this" {
  name                = "taxi-${random_id.sql.hex}"
  region              = var.region
  database_version    = "POSTGRES_18"
  deletion_protection = var.deletion_protection # Terraform refuses
  depends_on          = [google_service_networking_connection.sql]

  settings {
    tier                        = var.database.tier
    edition                     = "ENTERPRISE"
    availability_type           = var.database.availability
    disk_type                   = "PD_SSD"
    disk_size                   = var.database.disk_gb
    disk_autoresize             = true
    disk_autoresize_limit       = var.database.disk_max_gb
    deletion_protection_enabled = var.deletion_protection # Google refuses
    retain_backups_on_delete    = true
    user_labels                 = local.labels

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.this.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "08:00" # UTC: early morning in New York
      location                       = var.region
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7
      backup_retention_settings {
        retained_backups = 14
        retention_unit   = "COUNT"
      }
    }

    maintenance_window {
      day          = 7
      hour         = 9
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled = true
    }

    # Log connections, lock waits and DDL statements.
    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }
    database_flags {
      name  = "log_connections"
      value = "on"
    }
    database_flags {
      name  = "log_disconnections"
      value = "on"
    }
    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
    database_flags {
      name  = "log_statement"
      value = "ddl"
    }
  }

  lifecycle {
    ignore_changes = [settings[0].disk_size] # it grows automatically, and a smaller size would replace the instance
  }
}

resource "google_sql_database" "this" {
  for_each        = local.databases
  name            = each.key
  instance        = google_sql_database_instance.this.name
  deletion_policy = "ABANDON" # it is deleted with the instance; alone it could not be, while somebody is connected
}

# Two users, so that neither password opens the other database's tables, nor drops Dagster's (deploy/gcp/own-storage). The first
# version had one user for both, `taxi`; it stays the owner of Dagster's history, which could not be loaded again. One variable
# gives both passwords, and neither of them shows the other.
locals {
  users     = { dagster = "taxi", trips = "trips" }
  passwords = { for database in local.databases : database => sha256("${database} ${var.database_password}") }
}

resource "google_sql_user" "this" {
  for_each            = local.users
  name                = each.value
  instance            = google_sql_database_instance.this.name
  password_wo         = local.passwords[each.key]
  password_wo_version = var.database_password_version
  deletion_policy     = "ABANDON" # it owns tables, so Postgres would refuse
}

moved {
  from = google_sql_user.this
  to   = google_sql_user.this["dagster"]
}

# Runs at once, by the connections that the machine serves (Cloud SQL's default for max_connections): four a run (one for the
# trips, three of Dagster's storage), after 20 for the daemon (3), the webserver (3 pools of 3, by the option that
# deploy/gcp/release gives it), a release, and the server's own.
locals {
  connections = lookup({ db-f1-micro = 25, db-g1-small = 50 }, var.database.tier, 100) # custom machines have 100 or more
  max_runs    = floor((local.connections - 20) / 4)
}

# Secrets of the containers: one URL per database, read from Secret Manager when a container starts. Dagster's URL names the
# driver: with SQLAlchemy 2.1's default, psycopg 3, dagster-postgres cannot store an event (its NOTIFY takes no parameter).
# The secrets and the grants on them do not wait for the instance, which takes ten minutes: a grant takes minutes to work, and
# Cloud Run checks it when it creates a service.
locals {
  databases   = toset(["dagster", "trips"])
  url_schemes = { dagster = "postgresql+psycopg2", trips = "postgresql" }
  urls = { for database, user in google_sql_user.this : database =>
    "${local.url_schemes[database]}://${user.name}:${local.passwords[database]}@${google_sql_database_instance.this.private_ip_address}:5432/${database}?sslmode=require"
  }
}

resource "google_secret_manager_secret" "url" {
  for_each            = local.databases
  secret_id           = "taxi-${each.key}-postgres-url"
  deletion_protection = var.deletion_protection
  depends_on          = [google_project_service.this]

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "url" {
  for_each               = local.databases
  secret                 = google_secret_manager_secret.url[each.key].id
  secret_data_wo         = local.urls[each.key]
  secret_data_wo_version = var.database_password_version

  lifecycle {
    create_before_destroy = true # the old version is destroyed after everything uses the new one
  }
}
