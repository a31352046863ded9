"""The spool: batches on disk that a destination has not taken yet."""

from gateway.pipeline.spool.losses import Loss
from gateway.pipeline.spool.recovery import find, segments
from gateway.pipeline.spool.segment import Damage, Head, Record, scan
from gateway.pipeline.spool.spool import Spool, SpoolStatus, status

__all__ = ["Damage", "Head", "Loss", "Record", "Spool", "SpoolStatus", "find", "scan", "segments", "status"]
