"""The benchmark of the group view gives its figures, on a group too small to mean anything."""

import pytest

from tests.benchmarks import group_page


@pytest.mark.stack
def test_the_group_page_benchmark_gives_its_figures() -> None:
    figures = group_page.measure(4, 600).figures
    assert figures.keys() == {
        *("size", "num_tokens", "view_seconds", "page_mb", "first_text_seconds", "all_responses_seconds"),
        *("longest_task_ms", "scroll_frame_p50_ms", "scroll_frame_p95_ms", "token_nodes"),
    }
    assert 0 < figures["first_text_seconds"] <= figures["all_responses_seconds"]
    assert 0 < figures["token_nodes"] <= 4 * 600
