"""Draws the screen again and again, reads keys between, and leaves the run alone when one leaves."""

import threading
import time

from rich.console import Console
from rich.live import Live

from services.client.http import ControlClient
from services.top.draw import Screen
from services.top.facts import TopFacts
from services.top.feed import Feed
from services.top.keys import QUIT, Keys, read_keys

FRAME_SECONDS = 0.25


def show_top(client: ControlClient, run_id: str, console: Console, *, is_once: bool) -> None:
    """Show a run until somebody leaves; one drawing where the output is no terminal.

    Args:
        is_once: one drawing in any case.
    Raises:
        CommandFailed: there is no such run, or no control plane answers at first.
    """
    facts = TopFacts(run_id=run_id, url=client.endpoint.url, clock=time.monotonic)
    lock = threading.Lock()
    feed = Feed(client, facts, lock)
    feed.load()
    if is_once or not console.is_terminal:
        feed.load_events()
        console.print(Screen(facts))
        return
    with feed, read_keys() as reader, _screen(console) as live:
        keys, frame_seconds = Keys(), FRAME_SECONDS
        while True:
            with lock:
                live.update(Screen(facts, has_keys=reader.has_keys), refresh=True)
            key = reader.read(frame_seconds)
            if not key:
                continue
            with lock:
                action = keys.press(key, facts.allowed_actions)
                facts.question, facts.said = keys.question, keys.said
            if action == QUIT:
                return
            if action:
                feed.act(action)


def _screen(console: Console) -> Live:
    return Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop")
