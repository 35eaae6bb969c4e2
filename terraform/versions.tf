# Required versions. google-beta is used for fields that are in beta in 6.50: IAP on a Cloud Run
# service, mount options of a job's bucket, and the identity of a Google service.
terraform {
  required_version = ">= 1.11" # write-only arguments keep secrets out of plans and state

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50, < 7"
    }
    google-beta = {
      source  = "hashicorp/google-beta"
      version = ">= 6.50, < 7"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.7, < 4"
    }
  }

  # The bucket of the state is set at init: terraform init -backend-config=backend.gcs.tfbackend (see its example here).
  backend "gcs" {}
}

provider "google" {
  project        = var.project_id
  region         = var.region
  default_labels = local.labels
}

provider "google-beta" {
  project        = var.project_id
  region         = var.region
  default_labels = local.labels
}

# The budgets API requires a quota project for requests with user credentials.
provider "google" {
  alias                 = "billing"
  project               = var.project_id
  billing_project       = var.project_id
  user_project_override = true
}
