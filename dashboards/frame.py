"""What every dashboard shares: variables and annotations."""

from dashboards.model import DATASOURCE, Dashboard, Json, Section
from dashboards.palette import BLUE, ORANGE, PURPLE, VERMILION
from dashboards.promql import increase, level

DATASOURCE_VARIABLE: Json = {
    "name": "datasource",
    "label": "Data source",
    "description": "The Prometheus that scrapes the runs.",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "regex": "",
    "hide": 0,
    "includeAll": False,
    "multi": False,
    "options": [],
    "current": {},
}


def query_variable(name: str, label: str, query: str, description: str) -> Json:
    """A variable whose values are a label's, all of them chosen; asked again when the time range changes."""
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}", "qryType": 1},
        "definition": query,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "options": [],
        "current": {"text": ["All"], "value": ["$__all"]},
    }


JOB = query_variable("job", "Job", "label_values(less_run_state, job)", "Scrape job of the control planes.")
RUN = query_variable("run_id", "Run", 'label_values(less_run_state{job=~"$job"}, run_id)', "Runs with samples here.")
RAY_JOB = query_variable(
    "ray_job", "Ray job", "label_values(ray_node_cpu_utilization, job)", "Scrape job of the Ray nodes."
)


def annotation(name: str, expression: str, colour: str, text: str, *, value_is_time: bool = False) -> Json:
    """A mark on every panel wherever the expression is above 0; neighbours are one mark, from first to last.

    Args:
        value_is_time: the value is when it was, in milliseconds since 1970.
    """
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expression,
        "titleFormat": name,
        "textFormat": text,
        "tagKeys": "run_id",
        "step": "",
        "useValueForTime": value_is_time,
    }


# A state is a level, so a pause is a mark as long as the pause. The others are events, marked for one window.
ANNOTATIONS: tuple[Json, ...] = (
    annotation("Pause", f"{level('less_run_state', state='paused')} > 0", ORANGE, "{{run_id}} paused"),
    annotation(
        "Checkpoint",
        f"{level('less_checkpoint_last_success_timestamp_seconds')} * 1000",
        BLUE,
        "{{run_id}} wrote a checkpoint",
        value_is_time=True,
    ),
    annotation(
        "Worker restart",
        f"{increase('less_worker_restarts_total', 'role')} > 0",
        VERMILION,
        "{{run_id}} started a {{role}} worker again",
    ),
    annotation("Evaluation", f"{increase('less_evaluation_seconds_count')} > 0", PURPLE, "{{run_id}} was evaluated"),
)


def dashboard(
    name: str, title: str, description: str, *sections: Section, variables: tuple[Json, ...] = ()
) -> Dashboard:
    """A dashboard with the variables and annotations of all."""
    return Dashboard(
        uid=f"lessrl-{name}",
        title=f"lessrl / {title}",
        description=description,
        sections=sections,
        variables=(DATASOURCE_VARIABLE, JOB, RUN, *variables),
        annotations=ANNOTATIONS,
    )
