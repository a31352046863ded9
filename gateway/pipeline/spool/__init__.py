"""The spool: batches on disk that a destination has not taken yet."""

from gateway.pipeline.spool.segment import Damage, Record, scan
from gateway.pipeline.spool.spool import Spool, SpoolStatus, adopt, segments, status

__all__ = ["Damage", "Record", "Spool", "SpoolStatus", "adopt", "scan", "segments", "status"]
