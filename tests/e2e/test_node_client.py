"""The official Node client does the whole job, where Node is present and its registry can be reached."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.deployed import API_KEY, Deployed
from tests.integration.pipeline import request_line, request_lines
from tests.integration.processes import environ_of

pytestmark = pytest.mark.e2e

INSTALL_WITHIN_S = 60
JOB = """
import fs from "node:fs";
import OpenAI from "openai";

const client = new OpenAI();
const ended = ["completed", "failed", "expired", "cancelled"];
const file = await client.files.create({ file: fs.createReadStream("in.jsonl"), purpose: "batch" });
await client.files.waitForProcessing(file.id);
let batch = await client.batches.create({
  input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h", metadata: { from: "node" },
});
while (!ended.includes(batch.status)) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  batch = await client.batches.retrieve(batch.id);
}
const text = async (id) => (id ? await (await client.files.content(id)).text() : "");
let listed = 0;
for await (const one of client.batches.list({ limit: 1 })) { listed += one.id === batch.id ? 1 : 0; }
const deleted = await client.files.delete(file.id);
const missing = await client.batches.retrieve("batch_unknown").catch((error) => error.status);
console.log(JSON.stringify({
  batch, output: await text(batch.output_file_id), errors: await text(batch.error_file_id), listed, deleted, missing,
}));
"""


@pytest.fixture
def node_folder(tmp_path: Path) -> Path:
    """A folder in which the client is installed."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    command = [npm, "install", "openai", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install openai within {INSTALL_WITHIN_S} s")
    if done.returncode:
        pytest.skip("npm could not install openai: its registry can't be reached")
    return tmp_path


def test_the_whole_job(deployed: Deployed, node_folder: Path) -> None:
    (node_folder / "job.mjs").write_text(JOB)
    lines = [*request_lines(10), request_line("bad", "[[fail:400]]")]
    (node_folder / "in.jsonl").write_bytes(b"\n".join(lines))
    environ = environ_of({}) | {"OPENAI_BASE_URL": deployed.base_url, "OPENAI_API_KEY": API_KEY}

    done = subprocess.run(["node", "job.mjs"], cwd=node_folder, env=environ, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["batch"]["status"] == "completed"
    assert said["batch"]["metadata"] == {"from": "node"}
    assert said["batch"]["request_counts"] == {"total": 11, "completed": 10, "failed": 1}
    assert [json.loads(line)["custom_id"] for line in said["output"].splitlines()] == [f"id-{n}" for n in range(10)]
    assert [json.loads(line)["custom_id"] for line in said["errors"].splitlines()] == ["bad"]
    assert (said["listed"], said["deleted"]["deleted"], said["missing"]) == (1, True, 404)
