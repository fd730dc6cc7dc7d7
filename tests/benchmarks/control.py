"""The control plane under 200 clients and 50 event streams: python -m tests.benchmarks.control [--json] [--seconds 20]

The server is a process of its own, with its store in a file, as `lessrl serve` has it. Each client asks for /status
once a second on a connection that it keeps, at its own moment of the second; a latency counts from the moment at which
it was meant to ask, so that a server that stands still is not forgiven what it kept from being asked. `paused`: nothing
happens meanwhile. `training`: five steps a second are reported, each one an event to every stream; their delay is the
time from the report to the event at the client. `saturated`: one connection, one question after the other.
"""

import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from services.api.access import Access
from services.api.app import create_app
from services.api.limits import Limits
from services.collector import collected_rarely
from services.control.calls import PauseRequest
from services.control.intake import REWARD_METRIC
from services.control.plane import ControlPlane
from services.control.reconciler import Reconciler
from services.control.records import Caller
from services.control.store import open_store
from services.metrics.entries import catalogue
from services.reports import BufferReport, RunDescription, RunEvent, RunState, StepReport, WorkerReport
from services.serve_http import HttpServer, bind_port
from tests.benchmarks.report import Report, Row, make_parser, write_report

NUM_CLIENTS = 200
NUM_STREAMS = 50
ASK_SECONDS = 1.0
STEP_SECONDS = 0.2
RUN = "run-1"
PATH = f"/v1/runs/{RUN}"
FREE = Limits(reads_per_second=1e6, read_burst=1_000_000, writes_per_second=1e6, write_burst=1_000_000, max_streams=256)
"""All clients have one name here, and a hundred times the questions that one may ask."""
METRICS = {name: 0.5 for metric in catalogue().metrics if metric.is_closed for name in metric.names}
NUM_WORKERS = 64


# -- the server -------------------------------------------------------------------------------------------------------


def serve(pipe: Connection, store: str) -> None:
    """Of the other process: one run, that trains or is paused as the pipe says, until it says `end`."""
    with collected_rarely():
        asyncio.run(_serve(pipe, store))


async def _serve(pipe: Connection, store: str) -> None:
    plane = ControlPlane(open_store(store), clock=time.time)
    await plane.open()
    app = create_app(plane, registry=plane.registry, access=Access(limits=FREE))
    server = await HttpServer.start(app, bind_port("127.0.0.1", 0))
    watching = asyncio.create_task(Reconciler(plane).keep_time())
    number = await _begin(plane)
    pipe.send(server.address)
    training: asyncio.Task[int] | None = None
    while (order := await asyncio.to_thread(pipe.recv)) != "end":
        if order == "train":
            training = asyncio.create_task(_train(plane, number))
        elif training is not None:
            training.cancel()
        if order == "pause":
            await _pause(plane, number)
        pipe.send("done")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await server.stop()
    app.state.views.close()
    await plane.close()


async def _begin(plane: ControlPlane) -> int:
    description = RunDescription(
        run_id=RUN,
        name="bench",
        model="models/none",
        algorithm="grpo",
        shaping="less",
        seed=0,
        total_steps=1_000_000,
        recipe_hash="sha256:00",
        run_dir="/nowhere/bench",
    )
    await plane.register(description, link_id="link")
    workers = tuple(
        WorkerReport(worker_id=f"rollout-{each}", role="rollout", state="ready", description="vllm", start_seconds=9.0)
        for each in range(NUM_WORKERS)
    )
    started = RunEvent(kind="started", message="training", state=RunState.RUNNING, workers=workers)
    buffer = BufferReport(queues={"in_flight": (60, 64), "buffered": (3, 16)}, version=1)
    return await plane.report(RUN, "link", 1, [started, _step(1), buffer])


async def _train(plane: ControlPlane, number: int) -> int:
    step = number
    while True:
        step += 1
        number = await plane.report(RUN, "link", number, [_step(step)])
        await asyncio.sleep(STEP_SECONDS)


async def _pause(plane: ControlPlane, number: int) -> None:
    run = plane.run(RUN)
    assert run is not None
    await run.pause(PauseRequest(checkpoint=False), Caller(name="bench", role="admin"))
    await plane.report(RUN, "link", number, [RunEvent(kind="paused", message="paused", state=RunState.PAUSED)])


def _step(step: int) -> StepReport:
    return StepReport(
        step=step,
        total_steps=1_000_000,
        policy_version=step,
        # The moment of the report travels in a metric's place: events carry this one.
        metrics={**METRICS, REWARD_METRIC: time.time()},
        phase_seconds={"wait_batch": 0.5, "train": 1.0, "sync": 0.5},
        step_seconds=2.0,
        groups={"trained": 16},
        num_response_tokens=100_000,
        elapsed_seconds=2.0 * step,
    )


# -- the clients ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Args:
    latencies, delays: seconds, of answers to /status and of events.
    """

    latencies: list[float]
    delays: list[float]


class Client:
    """One connection that is kept. A tenth of the cost of an HTTP library, which 200 of them would feel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    async def get(self, path: str) -> bytes:
        """The body of an answer that says its length."""
        self.ask(path)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self._reader.readexactly(length)

    def ask(self, path: str) -> None:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """Lines of an answer that does not end, chunk sizes among them."""
        self.ask(path)
        while line := await self._reader.readline():
            yield line

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[Client]:
    parts = urlsplit(address)
    assert parts.hostname and parts.port
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    client = Client(reader, writer, parts.netloc)
    try:
        yield client
    finally:
        client.close()


async def poll(client: Client, begin: float, num_questions: int, latencies: list[float]) -> None:
    """Ask once a second, from `begin` on the loop's clock."""
    loop = asyncio.get_running_loop()
    for number in range(num_questions):
        due = begin + number * ASK_SECONDS
        await asyncio.sleep(due - loop.time())
        await client.get(f"{PATH}/status")
        latencies.append(loop.time() - due)


async def follow(address: str, delays: list[float], began: asyncio.Semaphore) -> None:
    """Read events for ever."""
    async with connect(address) as client:
        async for line in client.lines(f"{PATH}/events/stream"):
            if line.startswith(b"retry:"):
                began.release()
            if line.startswith(b'data: {"id"'):
                event = json.loads(line[6:])
                if event["type"] == "step_completed":
                    delays.append(time.time() - event["details"]["reward"])


async def press(address: str, *, num_clients: int, num_streams: int, num_questions: int) -> Load:
    """Let the clients ask, and the streams be open meanwhile."""
    load, began = Load(latencies=[], delays=[]), asyncio.Semaphore(0)
    streams = [asyncio.create_task(follow(address, load.delays, began)) for _ in range(num_streams)]
    for _ in streams:
        await began.acquire()
    async with AsyncExitStack() as connections:
        clients = [await connections.enter_async_context(connect(address)) for _ in range(num_clients)]
        begin = asyncio.get_running_loop().time() + 0.1
        asking = (
            poll(client, begin + ASK_SECONDS * each / num_clients, num_questions, load.latencies)
            for each, client in enumerate(clients)
        )
        await asyncio.gather(*asking)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    return load


async def saturate(address: str, num_questions: int) -> float:
    """Answers a second to one client that asks again at once."""
    async with connect(address) as client:
        began = time.perf_counter()
        for _ in range(num_questions):
            await client.get(f"{PATH}/status")
        return num_questions / (time.perf_counter() - began)


# -- the figures ------------------------------------------------------------------------------------------------------


def measure(
    *, num_seconds: int, num_clients: int = NUM_CLIENTS, num_streams: int = NUM_STREAMS, num_saturated: int = 2000
) -> Report:
    figures: dict[str, float] = {"clients": float(num_clients), "event_streams": float(num_streams)}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, str(Path(folder) / "control.db")))
        process.start()
        address = str(here.recv())

        def tell(order: str) -> None:
            here.send(order)
            here.recv()

        def ask(phase: str) -> None:
            load = asyncio.run(
                press(address, num_clients=num_clients, num_streams=num_streams, num_questions=num_seconds)
            )
            _add(figures, rows, f"{phase}_status", load.latencies)
            if load.delays:
                _add(figures, rows, f"{phase}_event", load.delays)

        _phases(tell, ask)
        figures["saturated_requests_per_second"] = asyncio.run(saturate(address, num_saturated))
        here.send("end")
        process.join()
    return Report(benchmark="control", core=None, figures=figures, rows={"latency": rows})


def _phases(tell: Callable[[str], None], ask: Callable[[str], None]) -> None:
    tell("train")
    ask("training")
    tell("stop")
    tell("pause")
    ask("paused")


def _add(figures: dict[str, float], rows: list[Row], name: str, seconds: list[float]) -> None:
    found = {f"p{part}": float(np.percentile(seconds, part)) * 1e3 for part in (50, 90, 99, 100)}
    figures |= {f"{name}_p50_ms": found["p50"], f"{name}_p99_ms": found["p99"]}
    rows.append({"what": name, "number": len(seconds), **{f"{part}_ms": value for part, value in found.items()}})


def main() -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--seconds", type=int, default=20, help="of each phase")
    options = parser.parse_args()
    write_report(measure(num_seconds=options.seconds), as_json=options.json)


if __name__ == "__main__":
    main()
