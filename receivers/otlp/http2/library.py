"""The `h2` library, set up for a server that strangers talk to.

Its workings are changed in three places, which a new version may undo; ``tests/integration/test_otlp_http2.py`` tells.
"""

from __future__ import annotations

from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame

from receivers.otlp.http2.flood_guard import MAX_FRAME_SIZE, MAX_HEADER_BLOCK
from receivers.otlp.http2.stream import MAX_HEADERS

_STREAM_WINDOW = 2**20
_CONNECTION_WINDOW = 4 * 2**20
"""Bytes that a client may have on their way to us: enough for 40 MB/s at 100 ms. What has arrived is bounded by whoever
keeps it, not by these."""

_INITIAL_WINDOW = 2**16 - 1
_HEADER_TABLE = 4096


class Library(H2Connection):
    """The server's side of one connection. ``max_streams`` is what the client is told.

    ``wasted`` hears of each piece of data for a request that is over; what it raises ends the connection.
    """

    MAX_CLOSED_STREAMS = 2048  # what it remembers of each costs memory on connections that last for weeks

    def __init__(self, max_streams: int, wasted: Callable[[], None]) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.encoder = _SmallTableEncoder()
        self.decoder.max_header_list_size = 2 * MAX_HEADER_BLOCK
        self._max_streams = max_streams
        self._wasted = wasted

    def initiate_connection(self) -> None:
        """Send our settings, and open the connection's window."""
        self.local_settings = _settings(self._max_streams)
        super().initiate_connection()
        # The library would end the connection over one stream too many; it is better to refuse that stream.
        self.local_settings = _settings(2**31 - 1)
        self.increment_flow_control_window(_CONNECTION_WINDOW - _INITIAL_WINDOW)

    def is_open(self, stream: int) -> bool:
        """Tell whether an answer can be sent on a stream."""
        known = self.streams.get(stream)
        return known is not None and not known.closed

    def _receive_frame(self, frame: Frame) -> list[Event]:
        # The library writes each frame down for its log, in hexadecimal, whether or not anybody logs. With telemetry
        # that is half of all its work.
        if type(frame) is not DataFrame:
            return super()._receive_frame(frame)
        if not self.is_open(frame.stream_id):
            self._wasted()
        frames, events = self._receive_data_frame(frame)
        self._prepare_for_sending(frames)
        return events

    def _receive_goaway_frame(self, frame: Frame) -> tuple[list[Frame], list[Event]]:
        # RFC 9113, 6.8: a client that goes away may wait for its answers. The library would send none any more.
        return [], [ConnectionTerminated()]


class _SmallTableEncoder(Encoder):
    """Remembers no more headers than it has to, whatever the client allows: what they are is up to the client, too."""

    @property
    def header_table_size(self) -> int:
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self.header_table.maxsize = min(value, _HEADER_TABLE)
        if self.header_table.resized:
            self.table_size_changes.append(self.header_table.maxsize)


def _settings(max_streams: int) -> Settings:
    return Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
            SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
        },
    )
