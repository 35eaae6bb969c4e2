# A separate network. Containers reach the database through it (Direct VPC egress, no connector). All other traffic,
# including downloads, uses Cloud Run's default egress, so no NAT is needed. The network has no ingress rules, so all
# ingress is denied.
resource "google_compute_network" "this" {
  name                    = "taxi"
  auto_create_subnetworks = false
  depends_on              = [google_project_service.this]
}

# Each run uses an address until some minutes after its end: 1,020 addresses are enough for 200 runs at once.
resource "google_compute_subnetwork" "this" {
  name                     = "taxi-run"
  network                  = google_compute_network.this.id
  region                   = var.region
  ip_cidr_range            = "10.10.0.0/22"
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
  }
}

# Address range from which Google assigns the database's address.
resource "google_compute_global_address" "sql" {
  name          = "taxi-sql"
  network       = google_compute_network.this.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "sql" {
  network                 = google_compute_network.this.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.sql.name]
  deletion_policy         = "ABANDON" # Google keeps the peering for hours or days after the instance; it goes with the network
}
