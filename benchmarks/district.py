"""A district to measure: the three services as processes of their own, with pupils who have claimed."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from services.cli.client import Homeroom, Json
from services.cli.pupil import Pupil, cloud_event, enrollment
from shared import clock
from tests.journeys.fleet import Fleet
from tests.support.backing import run as run_backing

PASSWORD = "correct horse of the benchmarks"
SOURCE = "/benchmarks"


@asynccontextmanager
async def backing() -> AsyncIterator[Json]:
    """A PostgreSQL and a Kafka of the benchmarks' own (or those that HOMEROOM_TEST_BACKING names)."""
    if named := os.environ.get("HOMEROOM_TEST_BACKING"):
        yield msgspec.json.decode(Path(named).read_bytes())
        return
    with _folder() as folder:
        answer = folder / "backing.json"
        running = asyncio.create_task(run_backing(folder / "backing", answer, os.getpid()))
        try:
            while not answer.exists():
                await asyncio.sleep(0.1)
                if running.done():
                    await running
            yield msgspec.json.decode(answer.read_bytes())
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that is gone afterwards, and that PostgreSQL's unprivileged user can enter."""
    with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


class District:
    """The services, a client to ask them with, and pupils."""

    def __init__(self, fleet: Fleet, http: aiohttp.ClientSession) -> None:
        self.fleet, self.homeroom = fleet, Homeroom(fleet.site(), http)
        self.http = http

    async def policy(self) -> Json:
        return dict((await self.homeroom.ask("GET", "claims", "/policy")).body)

    async def enrolled(self, count: int) -> list[Pupil]:
        """Pupils who were entered two days ago, and whom claims and auth know."""
        policy, now = await self.policy(), clock.now()
        pupils = [
            enrollment(timedelta(hours=48), now=now, number=f"{1_000_000 + n:07}") for n in range(count)
        ]
        for start in range(0, count, 100):
            batch = [
                cloud_event("StudentEnrolled", pupil, source=SOURCE, now=now)
                for pupil in pupils[start : start + 100]
            ]
            headers = {"Content-Type": "application/cloudevents-batch+json"}
            await self.homeroom.call("sis", "POST", "roster", "/enrollments", batch, headers=headers)
        return [Pupil(self.homeroom.ask, pupil, policy) for pupil in pupils]

    async def claimed(self, count: int) -> list[Pupil]:
        """Pupils who have walked through a claim and can sign in with PASSWORD."""
        pupils = await self.enrolled(count)
        await asyncio.gather(*(self.claim(pupil) for pupil in pupils))
        return pupils

    async def claim(self, pupil: Pupil) -> None:
        """Walks one pupil through a claim, as soon as claims has heard of the pupil."""
        for _ in range(100):
            if (await pupil.open_claim()).status == 201:
                break
            await asyncio.sleep(0.2)
        await pupil.set_password(PASSWORD)
        answer = await pupil.save_answers()
        if answer.status == 202 and await pupil.claim_settled() != "completed":
            raise RuntimeError(f"a claim came to nothing: {answer.body}")

    async def load(self, service: str, request: bytes, *, connections: int, seconds: float) -> Json:
        """One prepared request as fast as it is answered; see `benchmarks.load`."""
        return await load(self.fleet.urls[service], request, connections=connections, seconds=seconds)


async def load(url: str, request: bytes, *, connections: int, seconds: float) -> Json:
    """Run `benchmarks.load` against a URL's host and port; its report."""
    address = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load"),
        *map(str, (address.hostname, address.port, connections, seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(request)
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return dict(msgspec.json.decode(output))


def http_request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """The bytes of a keep-alive request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def district(found: Json) -> AsyncIterator[District]:
    """The services on databases and topics of their own beside a backing, stopped and removed afterwards."""
    with _folder() as folder:
        fleet = Fleet(found, folder)
        try:
            await fleet.start()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
                yield District(fleet, http)
        finally:
            await fleet.stop()
