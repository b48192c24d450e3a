"""The generated reference is current, and what the commands write matches the published schemas."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from benchmarks.release.reference import REFERENCE, pages
from freezeframe.data.media.verification import Check, VerificationReport
from freezeframe.data.types import Verdict
from freezeframe.pipeline.bench.run import Benchmark
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.report import Report, ShotLog
from freezeframe.pipeline.tasks import batch
from freezeframe.pipeline.tasks.probe.run import probe
from freezeframe.pipeline.tasks.restore.config import RestoreResult
from freezeframe.pipeline.tasks.video import deblur_video

CHECKS = VerificationReport(checks=(Check(name="size", expected="1x1", actual="1x1", passed=True),))


def validate(name: str, body: Any) -> None:
    """Validate a body as it would be read back from its file."""
    schema = json.loads((REFERENCE / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    text = json.dumps({"schema": 1} | body, default=str, allow_nan=False)
    Draft202012Validator(schema).validate(json.loads(text))


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_reference_is_current(name):
    """Else: python -m benchmarks.release.reference."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == pages()[name]


def test_no_other_file_lies_among_the_schemas():
    published = {f"schemas/{path.name}" for path in (REFERENCE / "schemas").iterdir()}
    assert published == {name for name in pages() if name.startswith("schemas/")}


def test_the_report_of_a_run_matches_its_schema(film, write_clip, tmp_path):
    source = write_clip(tmp_path / "pan.mkv", film((6.0, 0.0), [0, 1, 2], shutter=0.6))
    config = replace(Config(), fuse=replace(Config().fuse, network="none", iterations=1))
    report = deblur_video(source, tmp_path / "out.mkv", config=config)
    assert report.counts["deblurred"]
    validate("report", report.to_dict())
    report.save(tmp_path / "report.json")
    validate("report", json.loads((tmp_path / "report.json").read_text(encoding="utf-8")))


def test_a_result_that_is_not_finite_has_null_metrics():
    log = ShotLog()
    metrics = {"finite": False, "drift": float("inf"), "residual": float("inf"), "checkerboard": float("nan")}
    rejected = Verdict(index=0, time=0.0, action="fallback", reason="", blur=3.0, metrics=metrics)
    log.add(0, [rejected], {"gate": 0.1})
    report = Report(
        source="a", output="b", shutter=0.5, shutter_confidence=1.0, shots=log.reports(), seconds={},
        config=Config(), verification=CHECKS,
    )  # fmt: skip
    validate("report", report.to_dict())
    metrics = report.to_dict()["shots"][0]["verdicts"][0]["metrics"]
    assert metrics == {"finite": False, "drift": None, "residual": None, "checkerboard": None}


def test_verification_batch_restore_and_bench_match_their_schemas():
    validate("verification", CHECKS.to_dict())
    job = batch.Job(source=Path("a.mp4"), output=Path("b.mp4"))
    result = batch.JobResult(job=job, status="done", seconds=1.5, frames={"passthrough": 2})
    validate("batch", batch.to_dict([result, batch.JobResult(job=job, status="skipped")]))
    restored = RestoreResult(
        source=Path("a.png"), output=Path("b.png"), status="done", reason="clean", verification=CHECKS
    )
    validate("restore", {"restored": [restored.to_dict()]})
    row = {"psnr": 30.0}
    benchmark = Benchmark(
        name="pairs", comparison="per_pixel", frames=1, rows={"input": row},
        sequences={"a": {"input": row}}, per_frame={"a": {"input": [row]}},
    )  # fmt: skip
    validate("bench", benchmark.to_dict())


def test_a_probe_matches_its_schema(film, write_clip, tmp_path):
    source = write_clip(tmp_path / "pan.mkv", film((6.0, 0.0), [0, 1, 2], shutter=0.6))
    validate("probe", probe(source).to_dict())
