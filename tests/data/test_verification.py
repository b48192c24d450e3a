"""Reports of a verification."""

from __future__ import annotations

from freezeframe.data.media.verification import VerificationReport, compare, remark

REPORT = VerificationReport(
    (
        compare("size", "64x48", "64x48"),
        compare("audio bytes", "12 bytes", "12 bytes", detail="aac, identical"),
        compare("bit depth", 10, 8, detail="identical"),
        remark("times", "not stored"),
    )
)


def test_a_report_passes_if_all_its_checks_do():
    assert not REPORT.passed
    assert VerificationReport(tuple(check for check in REPORT.checks if check.passed)).passed


def test_the_text_names_the_expected_value_of_a_failed_check_only():
    assert REPORT.text().splitlines() == [
        "PASS  size         64x48",
        "PASS  audio bytes  aac, identical",
        "FAIL  bit depth    8 (expected: 10)",
        "PASS  times        not stored",
    ]


def test_json_has_every_field_of_a_check():
    assert REPORT.to_dict() == {
        "passed": False,
        "checks": [
            {"name": "size", "expected": "64x48", "actual": "64x48", "passed": True},
            {"name": "audio bytes", "expected": "12 bytes", "actual": "aac, identical", "passed": True},
            {"name": "bit depth", "expected": "10", "actual": "8", "passed": False},
            {"name": "times", "expected": "not stored", "actual": "not stored", "passed": True},
        ],
    }
