# Required: project_id, region, billing_account, alert_email, viewers, database_password. All others have defaults.

variable "project_id" {
  description = "Google Cloud project that holds this deployment and nothing else: roles given on the project rely on that."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id must be a project's id (6 to 30 lower-case letters, digits and dashes), not its name or number."
  }
}

variable "region" {
  description = "Region of everything, the BigQuery dataset included: a load job needs bucket and dataset in one location."
  type        = string
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "region must be a region such as us-central1, not a zone (us-central1-a) or a multi-region (US)."
  }
}

variable "billing_account" {
  description = "Billing account of the budget, XXXXXX-XXXXXX-XXXXXX."
  type        = string
  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "billing_account must look like 0A1B2C-3D4E5F-678901: see `gcloud billing accounts list`."
  }
}

variable "monthly_budget" {
  description = "Monthly budget in the billing account's currency; emails are sent at 50, 90 and 100 percent and when the forecast exceeds it. It stops no service."
  type        = number
  default     = 150
  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "monthly_budget must be a whole number of at least 1."
  }
}

variable "alert_email" {
  description = "Email address for alerts and budget notices, preferably of a group."
  type        = string
  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "alert_email must be one e-mail address."
  }
}

variable "alert_webhook_secret" {
  description = "Id of a secret of this project that holds a webhook's URL (Slack takes the format): failed runs and checks and late months are reported there in detail. null: only Google's alerts, by email."
  type        = string
  default     = null
  validation {
    condition     = var.alert_webhook_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.alert_webhook_secret))
    error_message = "alert_webhook_secret must be the id of a secret in Secret Manager, not the URL: gcloud secrets create taxi-alert-webhook --data-file=-"
  }
}

variable "alert_smtp_secret" {
  description = "Id of a secret of this project that holds a mail server, smtp://user:password@host:587: the same reports by email to alert_email. null: none."
  type        = string
  default     = null
  validation {
    condition     = var.alert_smtp_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.alert_smtp_secret))
    error_message = "alert_smtp_secret must be the id of a secret in Secret Manager, not the URL: gcloud secrets create taxi-smtp --data-file=-"
  }
}

variable "viewers" {
  description = "Members who may open the Dagster UI, and so start and delete runs: user:…, group:… or domain:…"
  type        = set(string)
  validation {
    condition     = length(var.viewers) > 0 && alltrue([for v in var.viewers : can(regex("^(user|group|domain):[^\\s]+\\.[^\\s]+$", v))])
    error_message = "viewers must name at least one user:, group: or domain: (allUsers and allAuthenticatedUsers would publish the UI)."
  }
}

variable "database_password" {
  description = "Random text from which the passwords of both database users are computed. They are sent to Cloud SQL and Secret Manager when these are created and when database_password_version is raised, ignored otherwise, and not stored in the state. Use a new value each time; nobody needs to know it."
  type        = string
  sensitive   = true
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{24,128}$", var.database_password))
    error_message = "database_password must be 24 to 128 letters, digits, _ or - (it goes into a URL): export TF_VAR_database_password=$(openssl rand -hex 24)"
  }
}

variable "database_password_version" {
  description = "Raise by one to replace both database passwords; the same apply updates the secrets and everything that reads them."
  type        = number
  default     = 1
  validation {
    condition     = var.database_password_version >= 1 && floor(var.database_password_version) == var.database_password_version
    error_message = "database_password_version must be a whole number of at least 1."
  }
}

variable "database" {
  description = "Cloud SQL: machine tier, ZONAL or REGIONAL (a standby in another zone, twice the price), and the size in GB that the disk may grow to (it cannot shrink)."
  type = object({
    tier         = optional(string, "db-custom-1-3840")
    availability = optional(string, "ZONAL")
    disk_gb      = optional(number, 20)
    disk_max_gb  = optional(number, 200)
  })
  default = {}
  validation {
    condition     = can(regex("^db-(custom-[0-9]+-[0-9]+|g1-small|f1-micro)$", var.database.tier))
    error_message = "database.tier must be a tier of the Enterprise edition: db-custom-<vCPU>-<MB>, db-g1-small or db-f1-micro."
  }
  validation {
    condition     = contains(["ZONAL", "REGIONAL"], var.database.availability)
    error_message = "database.availability must be ZONAL or REGIONAL."
  }
  validation {
    condition     = var.database.disk_gb >= 10 && var.database.disk_max_gb >= var.database.disk_gb
    error_message = "database.disk_gb must be at least 10, and disk_max_gb at least disk_gb."
  }
}

variable "kinds" {
  description = "Datasets to load (TAXI_KINDS); each has its own table."
  type        = set(string)
  default     = ["yellow"]
  validation {
    condition     = length(var.kinds) > 0 && length(setsubtract(var.kinds, ["yellow", "green", "fhv", "fhvhv"])) == 0
    error_message = "kinds must be some of yellow, green, fhv and fhvhv."
  }
}

variable "dataset" {
  description = "BigQuery dataset (TAXI_DATASET)."
  type        = string
  default     = "ny_taxi"
  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_]*$", var.dataset))
    error_message = "dataset must be letters, digits and underscores."
  }
}

variable "run_resources" {
  description = "CPU and memory of one run. Its files are in memory too: 1.4 GB for 16 million yellow rows, 2.3 GB for 20 million high-volume ones (docs/deploy.md, Memory)."
  type = object({
    cpu    = optional(string, "2")
    memory = optional(string, "4Gi")
  })
  default = {}
  validation {
    # Cloud Run's limits; an apply would stop there after everything else exists
    condition = can(regex("^[0-9]{1,2}Gi$", var.run_resources.memory)) && try(contains(
      { "1" = range(2, 5), "2" = range(2, 9), "4" = range(2, 17), "8" = range(4, 33) }[var.run_resources.cpu],
      tonumber(trimsuffix(var.run_resources.memory, "Gi")),
    ), false)
    error_message = "run_resources must be 2Gi to 4Gi of memory with 1 vCPU, to 8Gi with 2, to 16Gi with 4, or 4Gi to 32Gi with 8."
  }
}

variable "lake_days" {
  description = "Days after which raw months are deleted from the lake; materializing a month again downloads them again. Clean and rejected months stay."
  type        = number
  default     = 90
  validation {
    condition     = var.lake_days >= 7
    error_message = "lake_days must be at least 7: a failed month should still be there on Monday."
  }
}

variable "github" {
  description = "Repository whose workflows may plan (pull requests) and deploy (branch): owner/name, its numeric id (gh api repos/OWNER/NAME --jq .id; a name can be reused by others, an id cannot), and the bucket of this configuration's state. null: no CI."
  type = object({
    repository    = string
    repository_id = string
    state_bucket  = string
    branch        = optional(string, "main")
  })
  default = null
  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "github.repository must be owner/name."
  }
  validation {
    condition     = var.github == null || can(regex("^[0-9]+$", var.github.repository_id))
    error_message = "github.repository_id must be the number that `gh api repos/OWNER/NAME --jq .id` prints."
  }
  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9._/-]+$", var.github.branch))
    error_message = "github.branch must be a branch's name, without refs/heads/ and without quotes."
  }
}

variable "deletion_protection" {
  description = "Prevents Terraform and the console from deleting the database, tables, buckets with objects, secrets and services. Set to false, apply, then destroy."
  type        = bool
  default     = true
}
