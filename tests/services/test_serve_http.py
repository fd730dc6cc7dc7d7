"""A real socket on loopback: a port of one's own, answers, and a clean stop."""

import asyncio
import signal
import socket

import httpx
import pytest

from services.serve_http import HttpServer, bind_port, reachable_host
from shaping.errors import UserError


async def hello(scope: dict[str, object], receive: object, send: object) -> None:
    del receive
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"hello"})  # type: ignore[operator]


async def test_port_zero_serves_on_a_free_port_until_it_is_stopped() -> None:
    server = await HttpServer.start(hello, bind_port("127.0.0.1", 0))
    port = int(server.address.rsplit(":", 1)[1])
    assert server.address == f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient() as client:
        assert (await client.get(server.address)).text == "hello"
    await server.stop()
    await server.stop()
    bind_port("127.0.0.1", port).close()


async def test_two_servers_run_on_one_loop() -> None:
    servers = [await HttpServer.start(hello, bind_port("127.0.0.1", 0)) for _ in range(2)]
    async with httpx.AsyncClient() as client:
        answers = await asyncio.gather(*(client.get(server.address) for server in servers))
    assert [answer.text for answer in answers] == ["hello", "hello"]
    for server in servers:
        await server.stop()


async def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as caught:
            bind_port("127.0.0.1", port)
    message = str(caught.value)
    assert f"found 127.0.0.1:{port} in use (control.host and control.port in the recipe)" in message
    assert "0 picks a free one" in message
    assert "\n" not in message


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_a_host_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UserError, match=r"control\.host"):
        bind_port(host, 0)


async def test_the_signal_handlers_of_the_process_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    server = await HttpServer.start(hello, bind_port("127.0.0.1", 0))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    await server.stop()


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
async def test_a_bind_is_reached_by_what_processes_of_this_machine_call_it(bind: str) -> None:
    bound = bind_port(bind, 0)
    server = await HttpServer.start(hello, bound)
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{reachable_host(bind)}:{bound.getsockname()[1]}")
    assert (answer.text, answer.request.url.host) == ("hello", "127.0.0.1")
    await server.stop()


def test_an_ipv6_bind_is_called_in_brackets() -> None:
    assert [reachable_host(each) for each in ("::", "::1")] == ["[::1]", "[::1]"]
