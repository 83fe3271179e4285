"""Perfetto's TrackEvent format: a process for each log, a track for each actor, lock and counter, arrows from causes.

The package's streaming builder writes the packets that describe things. It takes 5-9 us for each packet, which is too much for a
million events: of these, the parts that recur (a name on a track, a field with its value) are serialised once by the package's
classes and then strung together. Protocol buffers allow that: the fields of a message may come in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from ptactors.analysis.export.timeline import BEGIN, COUNTER, COUNTER_TRACKS, END, INSTANT, marks, title
from ptactors.log.read import SavedLog

if TYPE_CHECKING:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket  # type: ignore[import-untyped]

_SEQUENCE = 1
_UNIQUE = frozenset({"va", "start", "end", "address", "pfn", "table", "old", "new", "value", "token", "result", "text"})
"""Fields of many values, which are not worth a number in the table of strings."""
_FRONT = 4
"""So many fields of every line, ev step cpu actor, are shown by the track, the time and the name."""
_INT64 = 1 << 63
_PIECES = 200_000
"""So many serialised parts are kept."""
_FLOW = b"\xf9\x02"
"""Tag of TrackEvent.flow_ids: field 47, 64 bits."""
_PACKET, _TIMESTAMP, _EVENT = b"\x0a", b"\x40", b"\x5a"
"""Tags of Trace.packet, TracePacket.timestamp and TracePacket.track_event."""


def export(logs: Sequence[SavedLog], out: BinaryIO) -> None:
    """Write one trace of all logs."""
    writer = _Writer(out)
    for number, log in enumerate(logs):
        writer.begin(number, log)
        writer.write(log)


class _Writer:
    def __init__(self, out: BinaryIO) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto  # type: ignore[import-untyped]
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder  # type: ignore[import-untyped]

        self._proto: Any = proto
        self._out = out
        self._builder = StreamingTraceProtoBuilder(out)
        self._names: dict[tuple[str, str], int] = {}
        self._pieces = _Pieces(self._piece)
        self._tracks: dict[str, int] = {}
        self._heads: dict[tuple[str, str, str], bytes] = {}
        self._log = 0
        self._uuid = 0
        first = self._packet()
        first.sequence_flags = proto.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        self._builder.write_packet(first)
        tail = self._packet()
        tail.sequence_flags = proto.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        self._tail = tail.SerializeToString() + _EVENT

    def _packet(self) -> TracePacket:
        packet: TracePacket = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def begin(self, number: int, log: SavedLog) -> None:
        """A new process; its actors first, in the order of their ids."""
        self._log = number
        self._tracks, self._heads = {}, {}
        self._uuid += 1
        self._process = self._uuid
        packet = self._packet()
        packet.track_descriptor.uuid = self._process
        packet.track_descriptor.process.pid = number + 1
        packet.track_descriptor.process.process_name = title(log.header)
        packet.track_descriptor.child_ordering = self._proto.TrackDescriptor.EXPLICIT
        self._builder.write_packet(packet)
        for actor in log.actors:
            self._track(actor)

    def _track(self, key: str) -> int:
        uuid = self._tracks.get(key)
        if uuid is None:
            self._uuid += 1
            uuid = self._tracks[key] = self._uuid
            packet = self._packet()
            descriptor = packet.track_descriptor
            descriptor.uuid, descriptor.parent_uuid = uuid, self._process
            descriptor.sibling_order_rank = len(self._tracks)
            name = key.rpartition(" ")[0] if key.startswith("lock ") else key
            descriptor.name = "set-up" if name == "-" else name
            if key.startswith(COUNTER_TRACKS):
                descriptor.counter.unit_name = "bytes" if key.startswith(COUNTER_TRACKS[0]) else "pages"
            self._builder.write_packet(packet)
        return uuid

    def write(self, log: SavedLog) -> None:
        """The events of one log."""
        heads, piece, write, tail = self._heads, self._pieces.__getitem__, self._out.write, self._tail
        pack = struct.Struct("<2sQ").pack
        base = self._log << 40
        last, high, high_bytes = -1, -1, b""
        for phase, track, name, time, fields in marks(log.raw()):
            if phase == END:
                name = ""  # the begin of the slice has it
            event = heads.get((phase, track, name)) or self._head(phase, track, name)
            if phase == COUNTER:
                event += self._counter(fields["value"])
            elif phase != END:
                cause = fields.pop("cause", None)  # an arrow shows it
                try:
                    event += b"".join(map(piece, islice(fields.items(), _FRONT, None)))
                except TypeError:  # a list is no key
                    event += b"".join(piece((key, _plain(value))) for key, value in islice(fields.items(), _FRONT, None))
                step = fields["step"]
                if step != last:  # the arrows of a step begin and end at its first event
                    last = step
                    event += pack(_FLOW, base + step)
                    if type(cause) is int:
                        event += pack(_FLOW, base + cause)
            if time >> 14 != high:
                high = time >> 14
                high_bytes = _varint(high)
            size = len(event)
            length = _SMALL[size] if size < _TABLE else _varint(size)
            size += _TIME_SIZE + len(high_bytes) + len(tail) + len(length)
            head = _HEADS[size] if size < _TABLE else _PACKET + _varint(size) + _TIMESTAMP
            write(b"".join((head, _LOW[time & 0x3FFF], high_bytes, tail, length, event)))

    def _head(self, phase: str, track: str, name: str) -> bytes:
        """Type, track and name of an event."""
        types = self._proto.TrackEvent
        event = types()
        event.type = {
            BEGIN: types.TYPE_SLICE_BEGIN, END: types.TYPE_SLICE_END, INSTANT: types.TYPE_INSTANT, COUNTER: types.TYPE_COUNTER
        }[phase]  # fmt: skip
        event.track_uuid = self._track(track)
        if phase in (BEGIN, INSTANT):
            event.name_iid = self._intern("event_names", name)
        made: bytes = event.SerializeToString()
        if len(self._heads) >= _PIECES:
            self._heads.clear()
        self._heads[phase, track, name] = made
        return made

    def _counter(self, value: int) -> bytes:
        made: bytes = self._proto.TrackEvent(counter_value=value).SerializeToString()
        return made

    def _piece(self, name: str, value: Any) -> bytes:
        """One field of a line, as a debug annotation."""
        event = self._proto.TrackEvent()
        note = event.debug_annotations.add()
        note.name_iid = self._intern("debug_annotation_names", name)
        if isinstance(value, bool):
            note.bool_value = value
        elif isinstance(value, int) and -_INT64 <= value < _INT64:
            note.int_value = value
        elif isinstance(value, str) and name not in _UNIQUE:
            note.string_value_iid = self._intern("debug_annotation_string_values", value)
        else:
            note.string_value = str(value)
        made: bytes = event.SerializeToString()
        return made

    def _intern(self, table: str, text: str) -> int:
        """The number of a string in one of the trace's tables; written before its first use."""
        iid = self._names.get((table, text))
        if iid is None:
            iid = self._names[table, text] = len(self._names) + 1
            packet = self._packet()
            packet.sequence_flags = self._proto.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
            entry = getattr(packet.interned_data, table).add()
            entry.iid = iid
            if table == "debug_annotation_string_values":
                entry.str = text.encode()
            else:
                entry.name = text
            self._builder.write_packet(packet)
        return iid


class _Pieces(dict[tuple[str, Any], bytes]):
    """(field, value) -> its annotation, made when it is first asked for."""

    def __init__(self, make: Callable[[str, Any], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: tuple[str, Any]) -> bytes:
        if len(self) >= _PIECES:
            self.clear()
        made = self[key] = self._make(*key)
        return made


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


_TABLE = 1 << 12
_SMALL = tuple(_varint(number) for number in range(_TABLE))
"""Lengths are mostly small."""
_TIME_SIZE = 3
"""Of a timestamp's tag and its first two bytes."""
_HEADS = tuple(_PACKET + size + _TIMESTAMP for size in _SMALL)
"""How a packet of each small size begins."""
_LOW = tuple(bytes((number & 0x7F | 0x80, number >> 7 | 0x80)) for number in range(1 << 14))
"""The first two bytes of a number, with more to follow: its last byte may be 0."""
