"""docs/how-to/secure-kafka.md followed word for word: who may do what on a broker that lets nobody in unasked.

One broker, in the state that the page leads to; the tests run in the order of the page.
"""

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from services.cli.client import SERVICES, Homeroom
from services.cli.pupil import Pupil, cloud_event, enrollment, kafka_record
from shared import clock
from tests.journeys.fleet import PARTITIONS, Fleet
from tests.journeys.town import Town, claim
from tests.support.java import write_tools
from tests.support.secured_kafka import BROKER, SecuredKafka, secured_kafka

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/how-to/secure-kafka.md").read_text()
LOGINS = ("admin", *SERVICES, "sis-ccps", "collector")
INGRESS, ROSTER = "homeroom.enrollments.ccps.v1", "homeroom.roster.v1"
AUDIT = "homeroom.auth.audit.v1"
PATIENCE_S = 15
NOWHERE = "http://127.0.0.1:1"
OTHER = """extends = "ccps"
code = "OTHERS"
time_zone = "America/Chicago"
names = { en = "Other County", es = "Otro Condado" }
"""

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("secured"),
]


def blocks(heading: str) -> list[str]:
    """The commands under a heading of the page."""
    [section] = [part for part in PAGE.split("\n## ") if part.startswith(f"{heading}\n")]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


class Site:
    """The broker, and a folder of an administrator's with the page's files in it."""

    def __init__(self, broker: SecuredKafka, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.passwords = {login: secrets.token_hex(12) for login in LOGINS}
        for login, password in self.passwords.items():
            (folder / f"{login}.password").write_text(password)
        shutil.copy(broker.authority, folder / "ca.pem")
        shutil.copytree(PROJECT / "policies", folder / "policies")
        (folder / "policies" / "other.toml").write_text(OTHER)
        tools = write_tools(folder / "bin")
        own = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}
        urls = {f"HOMEROOM_{service.upper()}_URL": NOWHERE for service in SERVICES}
        self.env = own | urls | {
            "KAFKA": broker.bootstrap,
            "HOMEROOM_PARTITIONS": str(PARTITIONS),
                "HOMEROOM_POLICY_DIR": str(folder / "policies"),
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip

    def run(self, *commands: str) -> str:
        script = "\n".join(commands)
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self.env, cwd=self.folder, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def administrator(self, name: str, password: str, mechanism: str) -> None:
        kind = {"PLAIN": "plain.PlainLoginModule", "SCRAM-SHA-512": "scram.ScramLoginModule"}[mechanism]
        (self.folder / "admin.properties").write_text(
            f"security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\n"
            f"sasl.jaas.config=org.apache.kafka.common.security.{kind} required"
            f' username="{name}" password="{password}";\n'
            "ssl.truststore.type=PEM\nssl.truststore.location=ca.pem\n"
        )

    def login(self, name: str, password: str | None = None) -> dict[str, Any]:
        """A client's settings as docs/how-to/publish-enrollments.md lists them."""
        return {
            "bootstrap.servers": self.broker.bootstrap, "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": name,
            "sasl.password": password or self.passwords[name],
            "ssl.ca.location": str(self.folder / "ca.pem"), "log_level": 0,
        }  # fmt: skip

    def write(self, settings: dict[str, Any], topic: str, event: dict[str, Any] | None = None) -> str | None:
        """What the broker says to one record: None, or the name of the refusal."""
        event = event or cloud_event(
            "StudentWithdrawn", {"source_id": "nobody"}, source="/sis", now=clock.now()
        )
        said = kafka_record(event, structured=False)
        told: list[str | None] = []
        producer = Producer(
            settings | {"acks": "all", "enable.idempotence": True, "message.timeout.ms": PATIENCE_S * 1000}
        )
        producer.produce(
            topic, key=said["key"], value=said["value"], headers=said["headers"],
            on_delivery=lambda error, _: told.append(error.name() if error else None),
        )  # fmt: skip
        assert producer.flush(PATIENCE_S * 2) == 0
        return told[0]

    def read(self, settings: dict[str, Any], topic: str) -> str | None:
        """What the broker says to a reader of the topic's beginning: None when it is given a record."""
        consumer = Consumer(settings | {"group.id": "g", "enable.auto.commit": False})
        try:
            if unseen := consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].error:
                return str(unseen.name())  # it may not even know that there is one
            consumer.assign([TopicPartition(topic, part, 0) for part in range(PARTITIONS)])
            answer = consumer.poll(PATIENCE_S)
            assert answer is not None, "the broker says nothing"
            return answer.error().name() if answer.error() else None
        finally:
            consumer.close()


class SecuredFleet(Fleet):
    """The services, each with its own login, as the page says."""

    def __init__(self, site: Site, postgres: str, folder: Path) -> None:
        super().__init__({"postgres": postgres, "kafka": site.broker.bootstrap}, folder)
        self.at = site

    def environment(self, service: str, roles: str) -> dict[str, str]:
        return super().environment(service, roles) | {
            "HOMEROOM_TOPIC_PREFIX": "homeroom",
            "HOMEROOM_KAFKA_SECURITY": "SASL_SSL",
            "HOMEROOM_KAFKA_SASL_USERNAME": service,
            "HOMEROOM_KAFKA_SASL_PASSWORD_FILE": str(self.at.folder / f"{service}.password"),
            "HOMEROOM_KAFKA_CA_FILE": str(self.at.folder / "ca.pem"),
        }

    async def delete_topics(self) -> None:
        """They go with their broker."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    # Not pytest's own folder: that one is closed to the account which root hands Kafka to.
    folder = Path(tempfile.mkdtemp(prefix="homeroom-secured-"))
    folder.chmod(0o755)
    try:
        async with secured_kafka(folder / "state") as broker:
            (folder / "admin").mkdir()
            site = Site(broker, folder / "admin")
            site.administrator(BROKER, broker.password, "PLAIN")
            site.run(
                'kafka-configs.sh --bootstrap-server "$KAFKA" --command-config admin.properties --alter'
                " --entity-type users --entity-name admin"
                f" --add-config 'SCRAM-SHA-512=[password={site.passwords['admin']}]'"
            )
            site.administrator("admin", site.passwords["admin"], "SCRAM-SHA-512")
            site.run(  # everybody to the tests' own group, since their client always asks for one
                'kafka-acls.sh --bootstrap-server "$KAFKA" --command-config admin.properties --add'
                " --allow-principal 'User:*' --operation Read --group g"
            )
            yield site
    finally:
        shutil.rmtree(folder)


async def test_the_page_is_followed_to_where_nobody_has_a_right_yet(site: Site) -> None:
    made = site.run(*blocks("The administrator"))
    assert {INGRESS, ROSTER} <= set(made.split())
    logins, _ = blocks("The services")
    login, _, _ = re.split(r"(?=kafka-acls)", blocks("A district's systems")[0] + "kafka-acls")
    site.run(logins, login)
    assert site.write(site.login("sis-ccps"), INGRESS) == "TOPIC_AUTHORIZATION_FAILED"


async def test_who_is_nobody_is_not_let_in(site: Site) -> None:
    wrong = site.login("sis-ccps", "wrong")
    with pytest.raises(KafkaException):
        Consumer(wrong | {"group.id": "g"}).list_topics(timeout=5)
    plain = {"bootstrap.servers": site.broker.bootstrap, "group.id": "g", "log_level": 0}
    with pytest.raises(KafkaException):
        Consumer(plain).list_topics(timeout=5)
    untrusted = {n: v for n, v in site.login("sis-ccps").items() if n != "ssl.ca.location"}
    with pytest.raises(KafkaException):
        Consumer(untrusted | {"group.id": "g"}).list_topics(timeout=5)


async def test_a_districts_system_may_write_to_its_topic_and_do_nothing_else(site: Site) -> None:
    site.run(blocks("The services")[1], blocks("A district's systems")[0])
    own = site.login("sis-ccps")
    assert site.write(own, INGRESS) is None
    assert site.read(own, INGRESS) == "TOPIC_AUTHORIZATION_FAILED"
    others = [topic for topic in _topics(site) if topic != INGRESS]
    assert "homeroom.enrollments.other.v1" in others
    for topic in others:
        assert site.write(own, topic) == "TOPIC_AUTHORIZATION_FAILED", topic
        assert site.read(own, topic) == "TOPIC_AUTHORIZATION_FAILED", topic


async def test_a_service_may_write_to_its_own_topic_only(site: Site) -> None:
    for service in SERVICES:
        for topic in _topics(site):
            mine = {f"homeroom.{service}.v1", *([AUDIT] if service == "auth" else [])}
            if topic not in mine:
                assert site.write(site.login(service), topic) == "TOPIC_AUTHORIZATION_FAILED", (
                    service,
                    topic,
                )
    assert site.read(site.login("claims"), INGRESS) == "TOPIC_AUTHORIZATION_FAILED"
    assert site.read(site.login("roster"), INGRESS) is None


async def test_a_pupil_claims_and_signs_in_over_it(site: Site, backing: dict[str, str]) -> None:
    """All three services, with those rights and no others: from the district's record to a session."""
    with tempfile.TemporaryDirectory(prefix="homeroom-secured-") as folder:
        fleet = SecuredFleet(site, backing["postgres"], Path(folder))
        try:
            await fleet.start()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
                town = Town(fleet, Homeroom(fleet.site(), http))
                town.policy = (await town.homeroom.ask("GET", "claims", "/policy")).body
                data = enrollment(timedelta(hours=26), now=clock.now())
                event = cloud_event("StudentEnrolled", data, source="/sis", now=clock.now())
                assert await asyncio.to_thread(site.write, site.login("sis-ccps"), INGRESS, event) is None
                assert (await town.taken(event["id"]))["state"] == "accepted"
                pupil = Pupil(town.homeroom.ask, data, town.policy)
                await town.known(pupil)
                assert (await pupil.sign_in(await claim(pupil))).status == 201
        except Exception as error:
            error.add_note(fleet.logs())
            raise
        finally:
            await fleet.stop()


async def test_who_collects_the_audit_may_read_it_and_do_nothing_else(site: Site) -> None:
    """It holds the sign-in of the pupil before."""
    site.run(*blocks("Who collects the audit"))
    collector = site.login("collector") | {"group.id": "collector"}
    assert site.read(collector, AUDIT) is None
    for topic in _topics(site):
        if topic != AUDIT:
            assert site.read(collector, topic) == "TOPIC_AUTHORIZATION_FAILED", topic
    with pytest.raises(
        KafkaException, match="CLUSTER_AUTHORIZATION_FAILED"
    ):  # who may write nowhere gets no producer
        site.write(collector, AUDIT)


async def test_a_system_that_is_retired_can_do_nothing_any_more(site: Site) -> None:
    site.run(blocks("A district's systems")[1])
    assert site.write(site.login("sis-ccps"), INGRESS) == "_MSG_TIMED_OUT"  # it is not let in


def _topics(site: Site) -> list[str]:
    found = Consumer(site.login("admin") | {"group.id": "g"}).list_topics(timeout=10).topics
    return sorted(name for name in found if name.startswith("homeroom."))
