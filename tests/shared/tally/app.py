"""What the operators' routes are tried on, and what a builder process finds its projections in."""

from aiokafka import ConsumerRecord

from shared.consumer import Intake, Unacceptable
from shared.database import Connection
from shared.messages import EventCodec, ingress_topic
from shared.service import Kit, ServiceSpec
from tests.shared.topics import COUNTS


def intakes(kit: Kit) -> list[Intake]:
    async def handle(conn: Connection, record: ConsumerRecord) -> None:
        if record.value == b"bad":
            raise Unacceptable("number_malformed", "seven digits are needed")
        await conn.execute("INSERT INTO taken (what) VALUES ($1)", (record.value or b"").decode())

    def key(record: ConsumerRecord) -> str | None:
        return None if record.key is None else record.key.decode()

    return [
        Intake(f"ingress.{district}", ingress_topic(kit.settings.topic_prefix, district), handle, key)
        for district in kit.policies.districts
    ]


SPEC = ServiceSpec(
    name="claims",
    package="tests.shared.tally",
    codec=EventCodec("claims", []),
    routes=lambda kit: [],
    projections=[COUNTS],
    intakes=intakes,
)
