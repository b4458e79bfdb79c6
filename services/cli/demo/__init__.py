"""`homeroom demo`: the whole story against the running stack, told as it happens: what was sent, what came back.

It walks as any outsider does, over Kafka and HTTP, with people nobody has seen before: it can be run again and again.

stage.py    says every request and answer aloud
pupil.py    the first chapter: a pupil's account, from the wait to the second claim
staff.py    the second: a school, its teacher, and what a year does to the pupil
history.py  the last: history replayed
"""

from services.cli.client import connect, out
from services.cli.demo import history, pupil, staff
from services.cli.demo.stage import Stage
from shared.kafka import producing
from shared.messages import ingress_topic


async def demo() -> None:
    """The whole story of a pupil's account and a teacher's: all that is sent to the running stack, and comes back."""
    async with connect() as homeroom:
        policy = await homeroom.get("claims", "/policy")
        settings = homeroom.site.settings()
        async with producing(settings) as producer:
            topic = ingress_topic(settings.topic_prefix, homeroom.site.district)
            stage = Stage(homeroom, producer, topic, policy)
            ann, password = await pupil.chapter(stage)
            await staff.chapter(stage, ann, password)
            await history.chapter(stage, ann)
    out.print("\n[bold green]The story ended as it should.[/bold green] Look closer: "
              f"homeroom timeline {ann.username}, homeroom account show {ann.username}")  # fmt: skip
