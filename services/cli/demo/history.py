"""The last chapter: history is replayed, and gives the same state."""

from services.cli.accounts import find_account
from services.cli.client import Failed, out
from services.cli.demo.stage import Stage
from services.cli.operations import replay_projection
from services.cli.pupil import Pupil

REBUILT = (("roster", "person"), ("claims", "admission"), ("auth", "person"))


async def chapter(stage: Stage, pupil: Pupil) -> None:
    stage.step("The history is replayed, and gives the same state")
    person_id = (await find_account(stage.homeroom, pupil.username))["person_id"]
    for service in ("roster", "claims", "auth"):
        events = (await stage.homeroom.get(service, f"/persons/{person_id}/timeline"))["events"]
        out.print(f"  {service}: " + ", ".join(f"{event['version']} {event['type']}" for event in events))
    for service, projection in REBUILT:
        compared = await replay_projection(stage.homeroom, service, projection, quiet=True)
        rows = f"{compared['compared']} rows compared, {compared['different']} different"
        out.print(f"  [green]replayed[/green] {service} {projection}: {rows}")
        if compared["different"]:
            raise Failed(
                "demo_failed", f"the replay of {service} {projection} differs from the running read model"
            )
