"""Resets of a school and of all students: whom they mean is asked of the database, and the list stays there.

They mean every claimed account of the pupils whom the roster has there, enrolled or withdrawn: whoever comes back later
in the year claims again, like everybody. Unclaimed accounts are left as they are. Staff are never part of it.
"""

from uuid import UUID

import msgspec

from services.claims import batches, decider
from services.claims.batches import sql
from services.claims.decider import Extent, Wanted
from services.claims.handlers import Asked
from shared.database import Connection
from shared.errors import Rejected
from shared.policy import Policy


class SchoolFigures(msgspec.Struct, frozen=True):
    """Of one school (null: the roster was told none): accounts to reset, and enrolled pupils who have not claimed."""

    school: str | None
    total: int
    unclaimed: int


async def figures(conn: Connection, district: str, school: str | None) -> list[SchoolFigures]:
    """Of one school, or of each. Changes nothing. Raises Rejected `school_unknown`."""
    rows = await conn.fetch(sql.bulk_figures, district, school)
    if school is not None and not rows:
        raise Rejected("school_unknown")
    return [SchoolFigures(**dict(row)) for row in rows]


async def start(conn: Connection, school: str | None, policy: Policy, asked: Asked) -> UUID:
    """Freezes the list as of now, of one school or of all. Raises Rejected `school_unknown`, `nobody_claimed`,
    `bulk_reset_open`, `person_required`, `resets_exhausted`."""
    extent: Extent = "all_students" if school is None else "school"
    await conn.execute(sql.take_turn, f"bulk:{policy.district}")
    if under_way := await conn.fetchval(sql.open_bulk, policy.district, school):
        raise Rejected("bulk_reset_open", batch_id=str(under_way))
    unclaimed = sum(of.unclaimed for of in await figures(conn, policy.district, school))
    batch_id = await batches.insert(
        conn, policy.district, extent, asked, school=school, unclaimed=unclaimed, waits=True
    )
    frozen = await conn.execute(sql.freeze_bulk, batch_id, policy.district, school, asked.now)
    total = int(frozen.rpartition(" ")[2])
    if not total:
        raise Rejected("nobody_claimed")
    alone = await batches.reset_alone(conn, policy.district, asked)
    wanted = Wanted(accounts=total, extent=extent, alone=alone)
    if not decider.list_waits(wanted, policy, human=asked.human):
        await conn.execute(sql.approve_batch, batch_id, None, asked.now)
        await conn.execute(sql.plan_items, batch_id, asked.now)
    return batch_id
