"""The report of a verification: properties of a finished output, expected and actual."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One property of an output: its expected value and its actual value."""

    name: str
    expected: str
    actual: str
    passed: bool


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """All checks of one output."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """One line per check, PASS or FAIL first."""
        width = max(len(check.name) for check in self.checks)
        return "\n".join(_format_row(check, width) for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON representation."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def compare(name: str, expected: object, actual: object, *, detail: str | None = None) -> Check:
    """Check that two values are equal; `detail` replaces the actual value in the report if they are."""
    passed = expected == actual
    shown = detail if detail and passed else str(actual)
    return Check(name=name, expected=str(expected), actual=shown, passed=passed)


def remark(name: str, detail: str) -> Check:
    """A property that is reported but cannot fail."""
    return Check(name=name, expected=detail, actual=detail, passed=True)


def _format_row(check: Check, width: int) -> str:
    status = "PASS" if check.passed else "FAIL"
    detail = check.actual if check.passed else f"{check.actual} (expected: {check.expected})"
    return f"{status}  {check.name:<{width}}  {detail}"
