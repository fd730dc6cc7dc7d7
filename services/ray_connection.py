"""One explicit Ray: the cluster that the user names, or a local one of our own. Never a second one by accident."""

import logging
import os
import secrets

import ray

from services.addresses import LOCAL_ADDRESS
from services.recipe import Recipe
from shaping.errors import UserError

NAMESPACE = "lessrl"


def connect(address: str, recipe: Recipe) -> None:
    """Connect to `address`, or start a local Ray where it is "local".

    Args:
        address: "local", "auto" or host:port.
    Raises:
        UserError: no cluster answers there, or it lacks what the recipe claims.
    """
    # Calls under way fail when their actors end with the run; Ray would print each as a traceback of its own.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    if address == LOCAL_ADDRESS:
        _start_local(recipe)
    else:
        connect_to(address)


def connect_to(address: str) -> None:
    """Connect to a cluster that is there.

    Args:
        address: "auto" or host:port.
    Raises:
        UserError: no cluster answers there.
    """
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"a Ray cluster must answer at {address}: {first}; start one with `ray start --head`, "
            "or use --address local (--address or RAY_ADDRESS)"
        ) from error


def disconnect() -> None:
    """Leave the cluster; a local one ends with it. Harmless when not connected."""
    ray.shutdown()


def cluster_size() -> str:
    """What the cluster offers, in words."""
    offered = ray.cluster_resources()
    num_nodes = sum(1 for node in ray.nodes() if node["Alive"])
    return f"{num_nodes} nodes, {offered.get('CPU', 0.0):g} CPUs, {offered.get('GPU', 0.0):g} GPUs"


def check_claims(recipe: Recipe, cpus: float, gpus: float) -> None:
    """The cluster must offer what all actors claim together.

    Raises:
        UserError: it does not.
    """
    offered = ray.cluster_resources()
    for name, claimed in (("CPU", cpus), ("GPU", gpus)):
        has = offered.get(name, 0.0)
        if claimed > has + 1e-9:
            raise UserError(
                f"the cluster must offer {claimed:g} {name}s for all actors, it has {has:g}; add nodes or lower "
                f"the claims of {recipe.name} (cluster.rollout, cluster.shaping, cluster.learner)"
            )


def _start_local(recipe: Recipe) -> None:
    """A Ray on loopback whose token nobody else has, so that other users of this machine cannot use it.

    Ray turns token mode on by itself where RAY_AUTH_MODE is unset; with a token in the environment it writes none to
    the user's home.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    cluster = recipe.cluster
    ray.init(
        address=LOCAL_ADDRESS,
        namespace=NAMESPACE,
        num_cpus=cluster.local_cpus or None,
        object_store_memory=cluster.object_store_bytes or None,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
