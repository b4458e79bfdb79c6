"""What measures the services works itself, on the event loop that it is run on."""

import asyncio
import sys

import pytest

from benchmarks.district import http_request, load
from tests.journeys.fleet import free_ports


async def test_a_load_counts_what_was_answered_and_how() -> None:
    (port,) = free_ports(1)
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.session_checks", str(port), stderr=asyncio.subprocess.PIPE
    )
    try:
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
        report = await load(f"http://127.0.0.1:{port}", http_request("GET", "/"), connections=4, seconds=0.3)
    finally:
        server.terminate()
        await server.wait()
    assert report["requests"] > 10
    assert report["statuses"] == {"200": report["requests"]}


async def test_a_load_that_goes_elsewhere_is_refused() -> None:
    with pytest.raises(RuntimeError, match="ended with 1"):
        await load("http://192.0.2.1:80", http_request("GET", "/"), connections=1, seconds=0.1)
