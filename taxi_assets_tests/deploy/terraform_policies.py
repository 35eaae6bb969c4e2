"""Policies for every plan of terraform/: rules over `terraform show -json`, each with ways to violate it.

A rule takes the plan and returns its violations, as messages with the resource's address. It reads planned values
where they are known, and the configuration's expressions where a value is only known after apply (a service account's
address).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Plan = dict[str, Any]
SERVICE, POOL, JOB = RUNNING = tuple(f"google_cloud_run_v2_{kind}" for kind in ("service", "worker_pool", "job"))
INVOKER, VIEWER = "google_cloud_run_v2_service_iam_member", "google_iap_web_cloud_run_service_iam_member"
SQL, BUCKET, TABLE = "google_sql_database_instance", "google_storage_bucket", "google_bigquery_table"
DATABASE, USER = "google_sql_database", "google_sql_user"
ALERT, GRANT = "google_monitoring_alert_policy", "google_secret_manager_secret_iam_member"
DAEMON_ALERT = "google_monitoring_alert_policy.daemon"
LAKE = 'google_storage_bucket.this["lake"]'
FEDERATION = "google_iam_workload_identity_pool_provider"
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY|CREDENTIAL|URL|DSN")
PASSWORD_IN_URL = re.compile(r"://[^/\s]*:[^@\s]*@")


def planned(plan: Plan, *types: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and planned values of every resource (of these types, or with these addresses)."""
    for resource in plan["planned_values"]["root_module"]["resources"]:
        if not types or resource["type"] in types or resource["address"] in types:
            yield resource["address"], resource["values"]


def configured(plan: Plan, *types: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and expressions of every resource block (of these types)."""
    for resource in plan["configuration"]["root_module"]["resources"]:
        if not types or resource["type"] in types:
            yield resource["address"], resource["expressions"]


def task(values: dict[str, Any]) -> dict[str, Any]:
    """The template that has the containers: a job nests it one deeper than a service or a worker pool."""
    template = values["template"][0]
    return template["template"][0] if "template" in template else template


def containers(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container, with its resource's address."""
    for address, values in planned(plan, *RUNNING):
        for container in task(values)["containers"]:
            yield address, container


def no_public_members(plan: Plan) -> list[str]:
    return [
        f"{address} names {public}"
        for address, anything in [*planned(plan), *configured(plan)]
        for public in ("allUsers", "allAuthenticatedUsers")
        if public in json.dumps(anything)
    ]


def no_plaintext_secrets(plan: Plan) -> list[str]:
    return [
        f"{address} has {variable['name']} in plain text"
        for address, container in containers(plan)
        for variable in container["env"]
        if variable.get("value")
        and (SECRET_NAME.search(variable["name"]) or PASSWORD_IN_URL.search(str(variable["value"])))
    ]


def no_password_outside_write_only_arguments(plan: Plan) -> list[str]:
    passwords = {plan["variables"]["database_password"]["value"]}
    passwords |= {values["password_wo"] for _, values in planned(plan, USER) if values.get("password_wo")}
    return [
        f"{address} keeps a password in {name}"
        for address, values in planned(plan)
        for name, value in values.items()
        if any(password in json.dumps(value) for password in passwords) and not name.endswith("_wo")
    ]


def databases_have_users_of_their_own(plan: Plan) -> list[str]:
    databases = {address.partition("[")[2]: address for address, _ in planned(plan, DATABASE)}
    users = {address.partition("[")[2]: values["name"] for address, values in planned(plan, USER)}
    return [
        f"{address} has no user of its own"
        for key, address in databases.items()
        if not key or list(users.values()).count(users.get(key)) != 1
    ]


def runs_are_not_retried(plan: Plan) -> list[str]:
    return [
        f"{address} is retried by Cloud Run"
        for address, values in planned(plan, JOB)
        if task(values).get("max_retries") != 0  # left out, it is 3
    ]


def exactly_one_daemon(plan: Plan) -> list[str]:
    counts = {
        address: (values["scaling"] or [{}])[0].get("manual_instance_count") for address, values in planned(plan, POOL)
    }
    return [] if list(counts.values()) == [1] else [f"daemons: {counts}"]


def database_is_backed_up(plan: Plan) -> list[str]:
    return [
        f"{address} has no {name}"
        for address, values in planned(plan, SQL)
        for name in ("enabled", "point_in_time_recovery_enabled")
        if not (values["settings"][0]["backup_configuration"] or [{}])[0].get(name)
    ]


def database_is_private(plan: Plan) -> list[str]:
    return [
        f"{address} can be reached from outside or without TLS"
        for address, values in planned(plan, SQL)
        for ip in values["settings"][0]["ip_configuration"]
        if ip["ipv4_enabled"] is not False or ip["ssl_mode"] != "ENCRYPTED_ONLY"
    ]


def data_is_protected(plan: Plan) -> list[str]:
    holders = (SQL, TABLE, "google_secret_manager_secret", *RUNNING)
    unprotected = [a for a, values in planned(plan, *holders) if values.get("deletion_protection") is not True]
    unprotected += [
        a for a, values in planned(plan, SQL) if values["settings"][0].get("deletion_protection_enabled") is not True
    ]
    unprotected += [a for a, values in planned(plan, BUCKET) if values.get("force_destroy")]
    unprotected += [
        a for a, values in planned(plan, "google_bigquery_dataset") if values.get("delete_contents_on_destroy")
    ]
    return [f"{address} could be deleted by mistake" for address in unprotected]


def only_raw_months_expire(plan: Plan) -> list[str]:
    """A sink that lacks an old month is loaded from the clean one, and dimensions are never written again."""
    return [
        f"{address} deletes more than raw months: {prefixes}"
        for address, values in planned(plan, BUCKET)
        if address.endswith('["lake"]')
        for rule in values["lifecycle_rule"]
        if rule["action"][0]["type"] == "Delete"
        for prefixes in [rule["condition"][0].get("matches_prefix") or []]
        if not prefixes or not all(prefix.endswith("_raw_trips/") for prefix in prefixes)
    ]


def grants_do_not_wait_for_the_database(plan: Plan) -> list[str]:
    """A grant takes minutes to work: nothing that a secret's grant refers to may be the instance, which takes ten to create."""
    resources = {resource["address"]: resource for resource in plan["configuration"]["root_module"]["resources"]}

    def needs(address: str, seen: set[str]) -> set[str]:
        text = json.dumps([resources[address].get(k) for k in ("expressions", "for_each_expression", "depends_on")])
        for name in set(re.findall(r'"(google_\w+\.\w+)', text)) & resources.keys() - seen:
            seen |= {name} | needs(name, seen | {name})
        return seen

    waiting = [(a, needs(a, set())) for a in resources if a.startswith("google_secret_manager_secret_iam_member.")]
    return [f"{a} waits for {n}" for a, names in waiting for n in sorted(names) if n.startswith("google_sql_")]


def absence_is_of_a_workload(plan: Plan) -> list[str]:
    """Metrics of Cloud Run have a series for each revision, which ends when the next one is released."""
    return [
        f"{address} fires when a revision is replaced"
        for address, values in planned(plan, ALERT)
        for condition in values["conditions"]
        for absent in condition["condition_absent"] or []
        for aggregation in absent["aggregations"] or [{}]
        if not aggregation.get("cross_series_reducer")
        or any("revision" in field for field in aggregation.get("group_by_fields") or ["revision"])
    ]


def traffic_waits_for_the_database(plan: Plan) -> list[str]:
    """Only an answer of the webserver shows that it has reached its storage; its port may be open before."""
    return [
        f"{address} gets requests before it can answer"
        for address, values in planned(plan, SERVICE)
        for container in task(values)["containers"]
        for probe in container["startup_probe"] or [{}]
        if not probe.get("http_get") or probe["failure_threshold"] * probe["period_seconds"] < 180
    ]


def own_service_accounts(plan: Plan) -> list[str]:
    return [
        f"{address} runs as something else than a role's service account"
        for address, expressions in configured(plan, *RUNNING)
        if "google_service_account.role" not in task(expressions).get("service_account", {}).get("references", [])
    ]


def services_are_behind_iap(plan: Plan) -> list[str]:
    open_services = [
        f"{address} lets everyone in"
        for address, values in planned(plan, SERVICE)
        if values.get("iap_enabled") is not True or values.get("invoker_iam_disabled")
    ]
    return open_services + [
        f"{address} gives {expressions['role']['constant_value']} to somebody else than IAP"
        for address, expressions in configured(plan, INVOKER)
        if "google_project_service_identity.iap.member" not in expressions["member"].get("references", [])
    ]


def buckets_are_private(plan: Plan) -> list[str]:
    return [
        f"{address} could be made public"
        for address, values in planned(plan, BUCKET)
        if values["public_access_prevention"] != "enforced" or values["uniform_bucket_level_access"] is not True
    ]


def narrow_roles(plan: Plan) -> list[str]:
    broad = re.compile(r"^roles/(owner|editor|viewer|[a-z]+\.admin)$")
    keys = [f"{address} is a key that leaks some day" for address, _ in planned(plan, "google_service_account_key")]
    return keys + [
        f"{address} gives {values['role']}"
        for address, values in planned(plan)
        if broad.match(str(values.get("role", "")))
    ]


def own_network(plan: Plan) -> list[str]:
    elsewhere = [
        f"{address} is not in the network of this deployment"
        for address, expressions in configured(plan, *RUNNING)
        if "google_compute_subnetwork.this"
        not in task(expressions)["vpc_access"][0]["network_interfaces"][0].get("subnetwork", {}).get("references", [])
    ]
    doors = planned(plan, "google_compute_firewall", "google_vpc_access_connector")
    return elsewhere + [f"{address} lets traffic in" for address, _ in doors]


def federation_is_narrow(plan: Plan) -> list[str]:
    return [
        f"{address} trusts tokens whatever their {claim}"
        for address, values in planned(plan, FEDERATION)
        for claim, where in (
            ("repository_id", values.get("attribute_condition") or ""),
            ("ref", values.get("attribute_condition") or ""),
            ("ref", values["attribute_mapping"].get("attribute.role", "")),
            ("event_name", values["attribute_mapping"].get("attribute.role", "")),
        )
        if f"assertion.{claim} " not in where
    ]


@dataclass(frozen=True)
class Policy:
    """A rule, and an edit of a valid plan that violates it (applied to the first resource of a type, or to one by address)."""

    rule: Callable[[Plan], list[str]]
    type: str
    harm: Callable[[dict[str, Any]], object]
    configuration: bool = False


def sets(**values: object) -> Callable[[dict[str, Any]], object]:
    """An edit that sets attributes of the resource."""
    return lambda resource: resource.update(values)


def sets_sql(block: str, **values: object) -> Callable[[dict[str, Any]], object]:
    """An edit of a block of the database's settings."""
    return lambda resource: resource["settings"][0][block][0].update(values)


def adds_variable(**variable: str) -> Callable[[dict[str, Any]], object]:
    """An edit that adds an environment variable to the container."""
    return lambda resource: task(resource)["containers"][0]["env"].append(variable)


def absence(alert: dict[str, Any]) -> dict[str, Any]:
    """The aggregation of an alert for a metric's absence."""
    return alert["conditions"][0]["condition_absent"][0]["aggregations"][0]


POLICIES = (
    Policy(no_public_members, VIEWER, sets(member="allAuthenticatedUsers")),
    Policy(no_public_members, INVOKER, sets(member={"constant_value": "allUsers"}), True),
    Policy(no_plaintext_secrets, SERVICE, adds_variable(name="PGPASSWORD", value="x")),
    Policy(no_plaintext_secrets, JOB, adds_variable(name="DB", value="postgresql://u:p@h/d")),
    Policy(no_password_outside_write_only_arguments, USER, lambda v: v.update(password=v["password_wo"])),
    Policy(databases_have_users_of_their_own, USER, sets(name="trips")),
    Policy(runs_are_not_retried, JOB, lambda v: task(v).pop("max_retries")),
    Policy(exactly_one_daemon, POOL, lambda v: v["scaling"][0].update(manual_instance_count=2)),
    Policy(exactly_one_daemon, POOL, lambda v: v["scaling"].clear()),
    Policy(database_is_backed_up, SQL, sets_sql("backup_configuration", enabled=False)),
    Policy(database_is_backed_up, SQL, sets_sql("backup_configuration", point_in_time_recovery_enabled=None)),
    Policy(database_is_backed_up, SQL, lambda v: v["settings"][0]["backup_configuration"].clear()),
    Policy(database_is_private, SQL, sets_sql("ip_configuration", ipv4_enabled=True)),
    Policy(database_is_private, SQL, sets_sql("ip_configuration", ssl_mode=None)),
    Policy(data_is_protected, SQL, sets(deletion_protection=False)),
    Policy(data_is_protected, SQL, lambda v: v["settings"][0].update(deletion_protection_enabled=None)),
    Policy(data_is_protected, TABLE, sets(deletion_protection=False)),
    Policy(data_is_protected, BUCKET, sets(force_destroy=True)),
    Policy(only_raw_months_expire, LAKE, lambda v: v["lifecycle_rule"][0]["condition"][0].update(matches_prefix=None)),
    Policy(only_raw_months_expire, LAKE, lambda v: v["lifecycle_rule"][0]["condition"][0].update(matches_prefix=[""])),
    Policy(grants_do_not_wait_for_the_database, GRANT, sets(secret_id={"references": ["google_sql_user.this"]}), True),
    Policy(absence_is_of_a_workload, DAEMON_ALERT, lambda v: absence(v).update(cross_series_reducer=None)),
    Policy(absence_is_of_a_workload, DAEMON_ALERT, lambda v: absence(v)["group_by_fields"].append("revision_name")),
    Policy(
        traffic_waits_for_the_database, SERVICE, lambda v: task(v)["containers"][0]["startup_probe"][0].pop("http_get")
    ),
    Policy(own_service_accounts, SERVICE, lambda e: task(e).pop("service_account"), True),
    Policy(services_are_behind_iap, SERVICE, sets(iap_enabled=None)),
    Policy(services_are_behind_iap, INVOKER, sets(member={"constant_value": "user:a@b.c"}), True),
    Policy(buckets_are_private, BUCKET, sets(public_access_prevention="inherited")),
    Policy(narrow_roles, "google_project_iam_member", sets(role="roles/editor")),
    Policy(narrow_roles, "google_storage_bucket_iam_member", sets(role="roles/storage.admin")),
    Policy(own_network, JOB, lambda e: task(e)["vpc_access"][0]["network_interfaces"][0].pop("subnetwork"), True),
    Policy(federation_is_narrow, FEDERATION, sets(attribute_condition=None)),
)
