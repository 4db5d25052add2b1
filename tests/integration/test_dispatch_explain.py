"""`wylon dispatch explain` against what really runs."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli.main import main
from tests.integration.databases import on_each_database
from tests.integration.pipeline import CONCURRENCY, TENANT, Pipeline, request_lines

pytestmark = [pytest.mark.integration, on_each_database]


def explain(pipeline: Pipeline, *options: str) -> str:
    environ = {
        "WYLON_DATA": str(pipeline.folder),
        "WYLON_BROKER_URL": pipeline.settings.broker_url,
        "WYLON_DATABASE_URL": pipeline.settings.database_url,
        "WYLON_TENANT_WEIGHTS": f"{TENANT}=2",
    }
    result = CliRunner().invoke(main, ["dispatch", "explain", *options], env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_tells_of_the_batches_that_run(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(400, "[[sleep:150]]"))
    pipeline.await_recorded(batch_id, 10)

    shown: dict[str, Any] = json.loads(explain(pipeline, "--json"))["upstreams"][0]
    table = explain(pipeline)

    assert (shown["window"]["workers"], shown["window"]["slots"]) == (2, 2 * CONCURRENCY)
    assert [row["batch"] for row in shown["batches"]] == [batch_id]
    assert [(row["tenant"], row["weight"], row["deserved"]) for row in shown["tenants"]] == [(TENANT, 2.0, 1.0)]
    assert 0 < shown["batches"][0]["lines_outstanding"] <= shown["window"]["lines"]
    assert batch_id in table
    pipeline.await_end(batch_id)
