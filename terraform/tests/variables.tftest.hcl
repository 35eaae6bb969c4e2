# Wrong values are refused before anything is planned, each by its own variable.

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

run "project_by_its_name" {
  command = plan
  variables {
    project_id = "My Project"
  }
  expect_failures = [var.project_id]
}

run "multi_region" {
  command = plan
  variables {
    region = "US"
  }
  expect_failures = [var.region]
}

run "zone_for_region" {
  command = plan
  variables {
    region = "us-central1-a"
  }
  expect_failures = [var.region]
}

run "billing_account_by_name" {
  command = plan
  variables {
    billing_account = "My Billing Account"
  }
  expect_failures = [var.billing_account]
}

run "published_ui" {
  command = plan
  variables {
    viewers = ["allAuthenticatedUsers"]
  }
  expect_failures = [var.viewers]
}

run "nobody_to_view" {
  command = plan
  variables {
    viewers = []
  }
  expect_failures = [var.viewers]
}

run "webhook_instead_of_its_secret" {
  command = plan
  variables {
    alert_webhook_secret = "https://hooks.example.com/T0/B0/x"
  }
  expect_failures = [var.alert_webhook_secret]
}

run "short_password" {
  command = plan
  variables {
    database_password = "hunter2"
  }
  expect_failures = [var.database_password]
}

run "password_that_breaks_the_url" {
  command = plan
  variables {
    database_password = "0123456789abcdef@0123456789abcdef"
  }
  expect_failures = [var.database_password]
}

run "unknown_kind" {
  command = plan
  variables {
    kinds = ["yellow", "purple"]
  }
  expect_failures = [var.kinds]
}

run "tier_of_another_edition" {
  command = plan
  variables {
    database = { tier = "db-perf-optimized-N-2" }
  }
  expect_failures = [var.database]
}

run "disk_that_shrinks" {
  command = plan
  variables {
    database = { disk_gb = 100, disk_max_gb = 50 }
  }
  expect_failures = [var.database]
}

run "too_little_memory" {
  command = plan
  variables {
    run_resources = { memory = "512Mi" }
  }
  expect_failures = [var.run_resources]
}

run "more_memory_than_two_processors_may_have" {
  command = plan
  variables {
    run_resources = { memory = "9Gi" }
  }
  expect_failures = [var.run_resources]
}

run "less_memory_than_eight_processors_must_have" {
  command = plan
  variables {
    run_resources = { cpu = "8", memory = "3Gi" }
  }
  expect_failures = [var.run_resources]
}

run "as_much_memory_as_four_processors_may_have" {
  command = plan
  variables {
    run_resources = { cpu = "4", memory = "16Gi" }
  }
  assert {
    condition     = google_cloud_run_v2_job.this["run"].template[0].template[0].containers[0].resources[0].limits.memory == "16Gi"
    error_message = "Four processors may have 2 to 16 GiB."
  }
}

run "quote_in_a_branch" {
  command = plan
  variables {
    github = { repository = "my-org/taxi_assets", repository_id = "1", state_bucket = "b", branch = "main' || true || '" }
  }
  expect_failures = [var.github]
}

run "repository_by_address" {
  command = plan
  variables {
    github = { repository = "https://github.com/my-org/taxi_assets", repository_id = "1", state_bucket = "b" }
  }
  expect_failures = [var.github]
}

run "lake_that_forgets_at_once" {
  command = plan
  variables {
    lake_days = 1
  }
  expect_failures = [var.lake_days]
}
