"""Durable runs: work that is asked for once and done once, whatever ends in between.

`Runs` keeps them in the store; `Worker` does them. See docs/decisions/0015 for why they are in the store.
"""

from gateway.runs.hub_id import holder
from gateway.runs.model import FINISHED, Enqueued, Request, Run, RunState, Trace
from gateway.runs.repository import RunLostError, Runs, RunsUnavailableError
from gateway.runs.worker import Execute, Outcome, Progress, Worker

__all__ = [
    "FINISHED",
    "Enqueued",
    "Execute",
    "Outcome",
    "Progress",
    "Request",
    "Run",
    "RunLostError",
    "RunState",
    "Runs",
    "RunsUnavailableError",
    "Trace",
    "Worker",
    "holder",
]
