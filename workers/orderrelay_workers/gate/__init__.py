"""The gate: every request to the vendor passes it, so that all workers together stay within what a company may do."""

from orderrelay_workers.gate.gate import Gate
from orderrelay_workers.gate.permits import ClosedTime, GateState, Hold, Kind, Limits, Permits, Refusal, Report

__all__ = ["ClosedTime", "Gate", "GateState", "Hold", "Kind", "Limits", "Permits", "Refusal", "Report"]
