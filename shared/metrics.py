"""What an operator needs first, for Prometheus: /metrics. Labels are route templates and reasons, never a person."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_HTTP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

requests = Counter(
    "homeroom_http_requests", "Requests by route template and status.", ["method", "route", "status"]
)
request_seconds = Histogram(
    "homeroom_http_request_seconds", "How long requests took.", ["method", "route"], buckets=_HTTP_SECONDS
)
in_flight = 0  # a plain number, moved by every request
Gauge("homeroom_http_in_flight", "Requests being answered now.").set_function(lambda: in_flight)
refusals = Counter("homeroom_refusals", "Refusals by route template and reason.", ["route", "reason"])

missing = Gauge("homeroom_missing", "1 for each thing that this process waits for.", ["what"])
invalid_policies = Gauge(
    "homeroom_invalid_policies", "Policy files that do not hold; what held before is in force."
)
refused_keys = Gauge(
    "homeroom_refused_keys", "Files of keys that do not hold; what held before is in force.", ["kind"]
)
worker_failures = Counter(
    "homeroom_worker_failures", "How often a part of the process failed and was started again.", ["worker"]
)
lost_log_writes = Counter(
    "homeroom_lost_log_writes", "Writes of log lines that failed: the disk is full, or nobody reads any more."
)
published = Gauge("homeroom_published_events", "Events that this process has brought to Kafka.")
outbox_rows = Gauge("homeroom_outbox_rows", "Events that Kafka has not acknowledged yet.")
outbox_oldest_seconds = Gauge("homeroom_outbox_oldest_seconds", "Age of the oldest of them.")
consumed = Counter(
    "homeroom_consumed_records",
    "Records by what became of them: applied, repeated, unknown (type), parked, queued.",
    ["consumer", "outcome"],
)
lag_records = Gauge(
    "homeroom_lag_records", "Records that Kafka has and this process has not yet read.", ["consumer", "part"]
)
dead_letters = Gauge("homeroom_dead_letters", "Open dead letters.", ["consumer", "state"])
expired = Counter("homeroom_expired_rows", "Rows that were cleaned up.", ["table"])


def observe_request(method: str, route: str, status: int, reason: str | None, seconds: float) -> None:
    count, duration = _of_route(method, route, status)
    count.inc()
    duration.observe(seconds)
    if reason is not None:
        refusals.labels(route, reason).inc()


@cache  # templates and statuses are few, and looking labels up costs more than counting
def _of_route(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return requests.labels(method, route, str(status)), request_seconds.labels(method, route)
